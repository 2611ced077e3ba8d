#include <algorithm>
#include <nlohmann/json.hpp>

#include "lab/experiments/heads.h"
#include "lab/measure/nonfinite.h"
#include "lab/measure/rewrite_json.h"
#include "lab/measure/token_input.h"

namespace weir {
namespace {

using OrderedJson = nlohmann::ordered_json;

OrderedJson loss_json(const ChangedLoss& loss) {
  OrderedJson json = {{"loss", json_number(loss.loss)},
                      {"difference", json_number(loss.difference)}};
  if (loss.standard_error)
    json["standard_error"] = json_number(*loss.standard_error);
  else
    json["standard_error"] = nullptr;
  return json;
}

OrderedJson matrix_json(const HeadMatrix& matrix) {
  OrderedJson rows = OrderedJson::array();
  for (const std::vector<double>& row : matrix) {
    OrderedJson one = OrderedJson::array();
    for (double value : row) one.push_back(json_number(value));
    rows.push_back(std::move(one));
  }
  return rows;
}

OrderedJson layer_record(const LayerHeads& layer, int64_t number, const HeadsTask& task) {
  OrderedJson heads = OrderedJson::array();
  for (const HeadNumbers& head : layer.heads) {
    OrderedJson one = {{"norm", json_number(head.norm)},
                       {"sink_score", json_number(head.sink_score)},
                       {"row_sum", json_number(head.row_sum)}};
    if (head.gate) one["gate"] = json_number(*head.gate);
    for (size_t a = 0; a < head.ablated.size(); ++a)
      one[ablation_name(task.ablations[a])] = loss_json(head.ablated[a]);
    heads.push_back(std::move(one));
  }
  OrderedJson json = {{"layer", number}, {"heads", heads}};
  if (!layer.map_similarity.empty()) {
    json["map_similarity"] = matrix_json(layer.map_similarity);
    json["output_similarity"] = matrix_json(layer.output_similarity);
  }
  json["sum_error"] = json_number(layer.sum_error);
  return json;
}

OrderedJson summary_json(const HeadsTask& task, const HeadsResult& result) {
  OrderedJson json = OrderedJson::object();
  if (task.similarity) {
    json["map_similarity"] = json_number(mean_similarity(result, &LayerHeads::map_similarity));
    json["output_similarity"] =
        json_number(mean_similarity(result, &LayerHeads::output_similarity));
  }
  double sum_error = 0;
  for (const LayerHeads& layer : result.layers) sum_error = std::max(sum_error, layer.sum_error);
  json["sum_error"] = json_number(sum_error);
  const int64_t removable = removable_heads(result, kRemovableShare);
  json["removable_heads"] = removable;
  json["removable_share"] = kRemovableShare;
  // Whether the curve went on until the loss was above that, or no head was left.
  const auto all = static_cast<int64_t>(result.layers.size() * result.layers.front().heads.size());
  json["removable_is_exact"] = removable < std::ssize(result.curve) || removable == all;
  return json;
}

}  // namespace

std::string heads_record(const MeasuredModel& sizes, const TokenBatch& batch, const HeadsTask& task,
                         const HeadsResult& result) {
  OrderedJson record = {{"format", "weir.heads/1"}};
  if (!task.provenance.empty()) record["provenance"] = OrderedJson::parse(task.provenance);
  record["model"] = {
      {"name", sizes.name},   {"layers", sizes.layers},         {"d_model", sizes.d_model},
      {"heads", sizes.heads}, {"kv_heads", sizes.kv_heads},     {"d_head", sizes.d_head},
      {"d_ff", sizes.d_ff},   {"vocabulary", sizes.vocabulary}, {"parameters", sizes.parameters}};
  record["tokens"] = {{"batch", batch.batch}, {"length", batch.length}};
  if (batch.around) record["tokens"].update(OrderedJson::parse(tokens_json(*batch.around)));
  OrderedJson settings = OrderedJson::object(), names = OrderedJson::array();
  for (Ablation ablation : task.ablations) names.push_back(ablation_name(ablation));
  settings["ablations"] = names;
  settings["prune"] = task.prune;
  settings["prune_by"] = ablation_name(task.ablations.front());
  settings["candidates"] = task.candidates;
  state_all_rewrites(task.options.rewrites, settings);
  settings["arithmetic"] = task.run.interpret ? "f64" : "f32";
  record["settings"] = settings;
  record["loss"] = json_number(result.loss);
  record["summary"] = summary_json(task, result);
  OrderedJson layers = OrderedJson::array(), curve = OrderedJson::array();
  for (const LayerHeads& layer : result.layers)
    layers.push_back(layer_record(layer, std::ssize(layers), task));
  for (const PrunedHead& step : result.curve) {
    OrderedJson one = {
        {"removed", std::ssize(curve) + 1}, {"layer", step.layer}, {"head", step.head}};
    one.update(loss_json(step.loss));
    curve.push_back(std::move(one));
  }
  record["layers"] = std::move(layers);
  record["curve"] = std::move(curve);
  return record.dump();
}

}  // namespace weir
