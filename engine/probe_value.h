#pragma once
// The values of probes as a running program hands them out.
#include <functional>
#include <string>

#include "interpret/tensor_view.h"

namespace weir {

/// The value of a probe; valid during the call of the sink only.
struct ProbeValue {
  const std::string& id;
  const Type& type;  ///< of the value in the graph
  TensorView view;   ///< where it lies, stored in this type or, by the interpreter, in f64

  HostTensor host() const { return {type, view.host().data}; }
};

using ValueSink = std::function<void(const ProbeValue&)>;

}  // namespace weir
