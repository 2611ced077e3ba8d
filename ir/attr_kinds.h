#pragma once
// What messages call the kinds of attributes.
#include "ir/op.h"

namespace weir {

struct AttrKindText {
  AttrKind kind;
  const char* name;     ///< "a list of integers"
  const char* example;  ///< "[0,2]", or "" where the name says it
};

const AttrKindText& text_of(AttrKind kind);

}  // namespace weir
