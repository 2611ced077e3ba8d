#include "tools/model_options.h"

#include <fmt/format.h>

#include "lab/data.h"
#include "support/text.h"

namespace weir {

void ModelOptions::add_to(CLI::App& command) {
  command.add_option("--model", model,
                     "llama (the demo's sizes), or one of " + join(llama_config_names(), ", "));
  command.add_option("--layers", layers, "blocks of the model");
  command.add_option("--v-scale", v_scale, "none, full, learned, backward or forward");
  command.add_option("--attention", attention, "softmax or softmax-1");
  command.add_option("--set", settings, "key=value, as for `weir train`; repeatable")
      ->allow_extra_args(false);
}

RunConfig ModelOptions::config() const {
  RunConfig config;
  if (model != "llama") config.model = llama_config(model);
  if (model != "llama" && model != "demo") config.length = config.model.context;
  if (model == "demo") config.model.vocabulary = 0;
  std::vector<std::string> words;
  if (layers > 0) words.push_back(fmt::format("model.layers={}", layers));
  if (!v_scale.empty()) words.push_back("v_scale.variant=" + v_scale);
  if (!attention.empty()) words.push_back("attention=" + attention);
  words.insert(words.end(), settings.begin(), settings.end());
  config = parse_config("", words, config);
  if (config.model.vocabulary == 0)
    config = resolve_vocabulary(config, *make_batches(config.data, config.seed));
  return config;
}

}  // namespace weir
