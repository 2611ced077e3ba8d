#include "passes/compose/compose.h"

#include "passes/compose/descend.h"
#include "passes/compose/measure.h"
#include "passes/compose/train.h"
#include "passes/identities.h"
#include "support/error.h"

namespace weir {

namespace {

void need_whole_batch(const ComposeOptions& options, const char* what) {
  if (options.parts != 1)
    user_error("compose", "a graph that is {} is asked for in {} parts. Leave parts out.", what,
               options.parts);
}

}  // namespace

std::vector<GraphPtr> compose(const GraphPtr& graph, const ComposeOptions& options,
                              const std::string& loss, const std::vector<ResolvedProbe>& probes) {
  switch (options.purpose) {
    case Purpose::plain:
      need_whole_batch(options, "neither trained nor measured");
      return {insert_probes(graph, probes)};
    case Purpose::train:
      return make_training_programs(graph, {.optimizer = options.optimizer,
                                            .loss = loss,
                                            .micro_batches = options.parts,
                                            .probes = probes})
          .in_order();
    case Purpose::descend:
      need_whole_batch(options, "descended");
      return {make_descent_program(graph, probes)};
    case Purpose::measure:
      return make_measure_programs(graph, {.loss = options.returns_loss ? loss : "",
                                           .parts = options.parts,
                                           .probes = probes})
          .in_order();
    case Purpose::check: {
      const GraphPtr checked = add_identities(graph, options.sink);
      std::vector<ResolvedProbe> all = probes;
      for (const ResolvedProbe& probe :
           resolve_probes(checked, parse_probe_requests({"identity.*"}), loss))
        all.push_back(probe);
      return make_measure_programs(checked, {.loss = loss, .parts = options.parts, .probes = all})
          .in_order();
    }
  }
  internal_error_at("unknown purpose");
}

}  // namespace weir
