#include "codegen/kernels.h"

#include <fmt/format.h>

#include "codegen/attention/attention.h"
#include "codegen/embedding.h"
#include "codegen/loop/kernel.h"
#include "codegen/matmul/kernel.h"
#include "support/error.h"

namespace weir {

KernelPhases make_kernel(std::string_view schedule, const GraphPtr& region, const Target& target,
                         const std::vector<InPlace>& in_place, const TileTable& tuned,
                         int64_t logits_bytes) {
  if (is_loop_schedule(schedule)) return make_loop_kernel(region, schedule, target, in_place);
  if (schedule == "matmul") return make_matmul_kernel(region, target, in_place, tuned);
  WEIR_CHECK(in_place.empty(), "schedule {} cannot write over its operands", schedule);
  if (schedule == "attention") return attention_kernel(*region, target);
  if (schedule == "attention_grad" || schedule == "attention_stats")
    return attention_backward_kernel(*region, target);
  if (schedule == "attention_map") return attention_map_kernel(*region, target);
  if (schedule == "embedding") return make_embedding_kernel(region, target);
  if (schedule == "embedding_grad") return make_embedding_grad_kernel(region, target);
  if (schedule == "loss_head") return make_loss_head_kernel(region, target, 0, tuned, logits_bytes);
  internal_error_at(fmt::format("unknown schedule '{}'", schedule));
}

}  // namespace weir
