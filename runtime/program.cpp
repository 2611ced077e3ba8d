#include "runtime/program.h"

#include <algorithm>

#include "support/align.h"
#include "support/error.h"

namespace weir {

void Workspace::reserve(const ProgramCode& code, int workers) {
  if (static_cast<int64_t>(arena_.bytes()) < code.arena_bytes)
    arena_ = Buffer(static_cast<size_t>(code.arena_bytes));
  int64_t stride = std::max(scratch_stride_, aligned(code.scratch_bytes));
  if (static_cast<int64_t>(scratch_.bytes()) < stride * workers)
    scratch_ = Buffer(static_cast<size_t>(stride * workers));
  scratch_stride_ = stride;
}

char* Workspace::scratch(int worker) const {
  return static_cast<char*>(scratch_.data()) + worker * scratch_stride_;
}

char* address_of(BufferRef place, const std::vector<void*>& inputs, const Workspace& workspace) {
  switch (place.kind) {
    case BufferRef::Kind::arena:
      return workspace.arena() + place.at;
    case BufferRef::Kind::input:
      return static_cast<char*>(inputs[place.at]);
  }
  internal_error_at("unknown kind of buffer");
}

std::vector<void*> buffers_of(const KernelCall& call, const std::vector<void*>& inputs,
                              const Workspace& workspace) {
  std::vector<void*> buffers;
  for (const CallBuffer& buffer : call.buffers)
    buffers.push_back(address_of(buffer.base, inputs, workspace) + buffer.offset);
  return buffers;
}

const void* output_data(const ProgramCode& code, size_t output, const std::vector<void*>& inputs,
                        const Workspace& workspace) {
  return address_of(code.outputs.at(output), inputs, workspace);
}

}  // namespace weir
