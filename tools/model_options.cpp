#include "tools/model_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "lab/train/data.h"
#include "support/text.h"

namespace weir {

namespace {

const std::vector<std::string>& own_options() {
  static const std::vector<std::string> names = {"--model", "--layers", "--set"};
  return names;
}

std::vector<std::string> model_names() {
  std::vector<std::string> names = llama_config_names();
  names.insert(names.begin(), "llama");
  return names;
}

bool is_named(const std::string& model) {
  const std::vector<std::string> names = model_names();
  return std::find(names.begin(), names.end(), model) != names.end();
}

bool is_model(const std::string& text) {
  std::error_code error;
  return is_named(text) || (!text.empty() && std::filesystem::exists(text, error));
}

}  // namespace

bool ModelOptions::names_checkpoint() const { return !is_named(model); }

void ModelOptions::add_to(OptionTable& table, bool checkpoints) {
  table_ = &table;
  const std::string meaning =
      "a named model: " + join(model_names(), ", ") + " (llama has the demo's sizes)";
  if (checkpoints)
    table
        .add("--model", &model,
             of_form("a named model, a checkpoint's folder or a .gguf file", is_model),
             meaning + "; or the folder or .gguf file of a checkpoint")
        .with_default();
  else
    table.add("--model", &model, one_of(model_names()), meaning).with_default();
  table.add("--layers", &layers, within(1, 1024), "blocks of the model");
  rewrites.add_to(table);
  table.add("--set", &settings,
            of_form("key=value",
                    [](const std::string& text) { return text.find('=') != std::string::npos; }),
            "key=value, as for `weir train`; repeatable");
}

std::vector<std::string> ModelOptions::given() const {
  std::vector<std::string> names;
  for (const std::string& name : own_options())
    if (table_->given(name)) names.push_back(name);
  return names;
}

RunConfig ModelOptions::config() const {
  RunConfig config;
  if (model != "llama") config.model = named_model(model);
  if (model != "llama" && model != "demo") config.length = config.model.context;
  std::vector<std::string> words;
  if (layers > 0) words.push_back(fmt::format("model.layers={}", layers));
  words.insert(words.end(), settings.begin(), settings.end());
  config = parse_config("", words, config);
  rewrites.apply(config.rewrites, config.model.layers);
  if (config.model.vocabulary == 0)
    config = resolve_vocabulary(config, *make_batches(config.data, config.seed));
  return config;
}

}  // namespace weir
