#pragma once
// The values of probes as a running program hands them out.
#include <functional>
#include <span>
#include <string>
#include <variant>

#include "interpret/host_tensor.h"
#include "ir/type.h"

namespace weir {

/// The value of a probe; valid during the call of the sink only.
struct ProbeValue {
  const std::string& id;
  const Type& type;
  std::variant<const void*, const HostTensor*> data;  ///< as stored, or of the interpreter

  HostTensor host() const;
  /// Calls f(std::span<const float>) or f(std::span<const double>); internal error unless f32.
  template <typename Function>
  void elements(Function f) const {
    const auto count = static_cast<size_t>(type.elements());
    if (const auto* tensor = std::get_if<const HostTensor*>(&data))
      f(std::span<const double>((*tensor)->data));
    else
      f(std::span<const float>(static_cast<const float*>(std::get<const void*>(data)), count));
  }
};

using ValueSink = std::function<void(const ProbeValue&)>;

}  // namespace weir
