#pragma once
// A reference case of PyTorch as a model with its weights and its batch.
#include <fmt/format.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "lab/lab_test_util.h"
#include "lab/measure/measure.h"
#include "lab/reference_case.h"

namespace weir::test {

inline ModelSource source_of(const ModelConfig& config, const Tensors& weights) {
  ModelSource source;
  source.sizes = {config.name,  config.layers,     config.d_model,
                  config.heads, config.kv_heads,   config.d_head,
                  config.d_ff,  config.vocabulary, 0};
  source.build = [config](int64_t B, int64_t T) { return build_llama(config, B, T); };
  source.read = [&weights](const Parameter& parameter, float* out) {
    const HostTensor& weight = weights.at(parameter.name);
    std::copy(weight.data.begin(), weight.data.end(), out);
  };
  source.read_added = [&weights](const AddedState& added, float* out) {
    auto found = weights.find(added.name);
    if (found == weights.end()) return false;
    std::copy(found->second.data.begin(), found->second.data.end(), out);
    return true;
  };
  return source;
}

struct ReferenceModel {
  Tensors tensors;
  nlohmann::json config;
  nlohmann::json record;
  ModelSource source;
  TokenBatch batch;
  MeasureTask task;

  ReferenceModel(const std::string& file, const std::string& record_name = "", int64_t sink = 0)
      : tensors(read_reference(file)),
        config(read_reference_metadata(file).at("config")),
        record(nlohmann::json::parse(std::ifstream(fmt::format(
            "{}/reference/{}.json", WEIR_TEST_DATA, record_name.empty() ? file : record_name)))),
        source(source_of(reference_config(config), tensors)) {
    source.sizes.name = record["model"]["name"].get<std::string>();
    const HostTensor& ids = tensors.at("tokens");
    const std::vector<int32_t> list(ids.data.begin(), ids.data.end());
    batch = token_batch(ids.shape()[0], ids.shape()[1] - 1, list);
    task.metrics.sink_token = sink;
    std::string variant = config.at("v_scale").get<std::string>();
    if (variant.ends_with("-only")) variant.resize(variant.size() - 5);
    task.options.rewrites.v_scale.variant = parse_v_scale_variant(variant);
    task.options.rewrites.v_scale.sigma = config.at("v_scale_sigma").get<double>();
    task.options.rewrites.attention = parse_normalizer(config.at("attention").get<std::string>());
    task.run.cache = WEIR_TEST_CACHE "/objects";
    task.run.threads = 2;
  }
  ReferenceModel(const ReferenceModel&) = delete;
};

}  // namespace weir::test
