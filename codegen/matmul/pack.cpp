#include "codegen/matmul/pack.h"

#include <algorithm>

namespace weir {
namespace {

using llvm::Value;
using Values = Emitter::Values;

class StripPacker {
 public:
  StripPacker(Emitter& e, const PackedStrip& strip, const StripLoader& load, const StripAsker& ask,
              Value* to)
      : e_(e), strip_(strip), load_(load), ask_(ask), to_(to), lanes_(e.lanes()) {}

  void pack() {
    if (strip_.depth_contiguous) {
      // Square blocks of lanes x lanes, turned in registers.
      Value* whole = e_.mul(e_.div(strip_.depth, lanes_), lanes_);
      e_.for_loop(e_.index(0), whole, lanes_, [&](Value* k) { block(k, lanes_); });
      if (strip_.depth_remainder > 0)
        e_.if_then(strip_.ragged, [&] { block(whole, strip_.depth_remainder); });
    } else {
      e_.for_loop(e_.index(0), strip_.depth, 1, [&](Value* k) { row(k); });
    }
  }

 private:
  /// `steps` steps of k from k on.
  void block(Value* k, int64_t steps) {
    Value* column = e_.add(strip_.depth_begin, k);
    Value* mask = e_.mask_below(e_.index(steps), static_cast<int>(lanes_));
    for (int64_t first = 0; first < strip_.width; first += lanes_) {
      Values rows;
      for (int64_t i = 0; i < lanes_; ++i)
        rows.push_back(first + i < strip_.present
                           ? load_(e_.add(strip_.begin, first + i), column, mask)
                           : e_.f32(0, static_cast<int>(lanes_)));
      rows = e_.transpose(rows);
      for (int64_t j = 0; j < steps; ++j) put(e_.add(k, j), first, rows[j]);
    }
  }

  void row(Value* k) {
    if (strip_.steps_ahead > 0) ask_ahead(k);
    for (int64_t first = 0; first < strip_.width; first += lanes_) {
      Value* mask = e_.mask_below(e_.index(strip_.present - first), static_cast<int>(lanes_));
      put(k, first, load_(e_.add(strip_.depth_begin, k), e_.add(strip_.begin, first), mask));
    }
  }

  void ask_ahead(Value* k) {
    Value* later = e_.add(k, strip_.steps_ahead);
    for (int64_t first = 0; first < strip_.width; first += lanes_) {
      // The last element's line: that of the first is the same or belongs to the strip before.
      const int64_t last = std::min(first + lanes_, strip_.width) - 1;
      if (ask_) ask_(e_.add(strip_.depth_begin, later), e_.add(strip_.begin, last));
      Value* at = e_.mul(e_.add(e_.mul(later, strip_.width), last), 4);
      e_.prefetch(e_.ir().CreateGEP(e_.ir().getInt8Ty(), to_, at), /*for_write=*/true);
    }
  }

  /// Stores the elements from `first` on of step k. Where a narrow strip may spill, it does so into
  /// step k + 1, which is written next; any other ragged end is masked.
  void put(Value* k, int64_t first, Value* vector) {
    Value* at = e_.add(e_.mul(k, strip_.width), first);
    const int64_t left = strip_.width - first;
    Value* mask = strip_.may_spill && strip_.width < lanes_
                      ? nullptr
                      : e_.mask_below(e_.index(left), static_cast<int>(lanes_));
    e_.store(Storage::f32, vector, to_, at, mask);
  }

  Emitter& e_;
  const PackedStrip& strip_;
  const StripLoader& load_;
  const StripAsker& ask_;
  Value* to_;
  int64_t lanes_;
};

}  // namespace

void emit_pack_strip(Emitter& e, const PackedStrip& strip, const StripLoader& load,
                     const StripAsker& ask, Value* to) {
  StripPacker(e, strip, load, ask, to).pack();
}

}  // namespace weir
