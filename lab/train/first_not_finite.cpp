#include "lab/train/first_not_finite.h"

#include <fmt/format.h>

#include <cmath>
#include <map>
#include <set>

#include "ir/type.h"
#include "lab/measure/nonfinite.h"
#include "passes/probes.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

// The elements of a value that are not finite, over all its parts along the batch.
struct NotFinite {
  int64_t count = 0, elements = 0, rows_before = 0;
  std::string first;  // "nan at [0,3,17]"
};

std::string position_text(int64_t index, const std::vector<int64_t>& shape, int64_t rows_before) {
  std::vector<std::string> parts(shape.size());
  for (size_t axis = shape.size(); axis-- > 0;) {
    parts[axis] = fmt::format("{}", index % shape[axis] + (axis == 0 ? rows_before : 0));
    index /= shape[axis];
  }
  return "[" + join(parts, ",") + "]";
}

void look(const ProbeValue& value, NotFinite& found) {
  value.view.floats([&](auto elements) {
    for (size_t i = 0; i < elements.size(); ++i) {
      if (std::isfinite(elements[i])) continue;
      if (found.count++ == 0)
        found.first = fmt::format(
            "{} at {}", nonfinite_text(elements[i]),
            position_text(static_cast<int64_t>(i), value.type.shape, found.rows_before));
    }
    found.elements += static_cast<int64_t>(elements.size());
  });
  if (!value.type.shape.empty()) found.rows_before += value.type.shape[0];
}

std::string first_is(const std::string& what, const NotFinite& found) {
  return fmt::format("first not finite is {}: {} ({} of {} elements)", what, found.first,
                     found.count, found.elements);
}

}  // namespace

std::string first_not_finite(const RunConfig& config, const BatchSource& source,
                             const CompileSettings& settings, int64_t step,
                             const std::function<void(Trainer&)>& load) {
  std::vector<std::string> hooks = {"hook_embed"}, gradients;
  for (int64_t l = 0; l < config.model.layers; ++l)
    for (const char* hook : {"hook_resid_mid", "hook_resid_post"})
      hooks.push_back(fmt::format("blocks.{}.{}", l, hook));
  std::set<std::string> there;
  for (const Hook& hook : list_hooks(built_model(config).graph)) there.insert(hook.name);
  std::erase_if(hooks, [&](const std::string& hook) { return !there.contains(hook); });
  RunConfig probed = config;
  probed.measure.metrics = false;
  probed.measure.probes = hooks;
  const TrainingGraphs graphs = make_training_graphs(config, settings.target, false);
  for (auto parameter = graphs.parameters.rbegin(); parameter != graphs.parameters.rend();
       ++parameter)
    gradients.push_back(parameter->name + ".grad");
  probed.measure.probes.insert(probed.measure.probes.end(), gradients.begin(), gradients.end());
  Trainer trainer(probed, source, settings, true);
  trainer.initialise();
  load(trainer);
  std::map<std::string, NotFinite> found;  // by hook
  const StepResult result = trainer.measured_step(step, [&](const ProbeValue& value) {
    look(value, found[value.id.substr(0, value.id.find(':'))]);
  });
  WEIR_CHECK(found.size() == hooks.size() + gradients.size(), "{} of {} probes have come",
             found.size(), hooks.size() + gradients.size());
  for (const std::string& hook : hooks)
    if (found[hook].count > 0) return first_is(hook + " [sequence,token,feature]", found[hook]);
  if (!std::isfinite(result.loss))
    return fmt::format("first not finite is the loss: {}, though the residual stream is finite",
                       nonfinite_text(result.loss));
  int64_t bad = 0;
  std::string first;
  for (const std::string& gradient : gradients) {
    if (found[gradient].count == 0) continue;
    if (bad++ == 0)
      first =
          first_is("the gradient of " + gradient.substr(0, gradient.size() - 5), found[gradient]);
  }
  if (bad > 0)
    return fmt::format("the loss is {}; {}, and {} of {} gradients are not finite in all",
                       result.loss, first, bad, gradients.size());
  if (!std::isfinite(result.grad_norm))
    return fmt::format(
        "the loss is {} and every gradient is finite, but the sum of their squares is not",
        result.loss);
  return "";
}

}  // namespace weir
