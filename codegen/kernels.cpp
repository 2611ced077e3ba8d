#include "codegen/kernels.h"

#include "codegen/attention/attention.h"
#include "codegen/embedding.h"
#include "codegen/loop/kernel.h"
#include "codegen/matmul/kernel.h"
#include "support/error.h"

namespace weir {

KernelPhases make_kernel(Schedule schedule, const GraphPtr& region, const Target& target,
                         const std::vector<InPlace>& in_place, const TileTable& tuned,
                         int64_t logits_bytes) {
  const auto not_in_place = [&] {
    WEIR_CHECK(in_place.empty(), "schedule {} cannot write over its operands",
               schedule_name(schedule));
  };
  switch (schedule) {
    case Schedule::elementwise:
    case Schedule::row:
    case Schedule::column:
      return make_loop_kernel(region, schedule, target, in_place);
    case Schedule::matmul:
      return make_matmul_kernel(region, target, in_place, tuned);
    case Schedule::attention:
      not_in_place();
      return attention_kernel(*region, target);
    case Schedule::attention_grad:
    case Schedule::attention_stats:
      not_in_place();
      return attention_backward_kernel(*region, target);
    case Schedule::attention_map:
      not_in_place();
      return attention_map_kernel(*region, target);
    case Schedule::attention_identities:
      not_in_place();
      return attention_identities_kernel(*region, target);
    case Schedule::embedding:
      not_in_place();
      return make_embedding_kernel(region, target);
    case Schedule::embedding_grad:
      not_in_place();
      return make_embedding_grad_kernel(region, target);
    case Schedule::loss_head:
      not_in_place();
      return make_loss_head_kernel(region, target, 0, tuned, logits_bytes);
  }
  internal_error_at("unknown schedule");
}

}  // namespace weir
