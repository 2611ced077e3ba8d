#include "models/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <string_view>
#include <system_error>

#include "io/gguf_tokenizer.h"
#include "ir/rewrite_state.h"
#include "models/architecture.h"
#include "models/gguf_config.h"
#include "models/hugging_face_config.h"
#include "support/error.h"
#include "support/log.h"
#include "support/text.h"

namespace weir {
namespace {

namespace fs = std::filesystem;

std::string embedding_of(const ModelConfig& config) {
  return std::string(architecture_of(config).block.names.embedding) + ".weight";
}
std::string output_of(const ModelConfig& config) {
  return std::string(architecture_of(config).block.names.output) + ".weight";
}

// What a rewrite adds to the model, as config.json names it: "weir_rewrites": {"qk_norm": "true"}.
std::string rewrites_text(const std::map<std::string, std::string>& rewrites) {
  std::vector<std::string> settings;
  for (const auto& [key, value] : rewrites)
    settings.push_back(fmt::format("\"{}\": \"{}\"", key, value));
  return fmt::format("\"weir_rewrites\": {{{}}}", join(settings, ", "));
}

// What tensors say that architectures do not have: other model types do.
struct KnownElsewhere {
  const char *suffix, *hint;
};
constexpr KnownElsewhere kElsewhere[] = {
    {"self_attn.q_norm.weight", "q_norm and k_norm are those of the model_type qwen3"},
    {"self_attn.k_norm.weight", "q_norm and k_norm are those of the model_type qwen3"},
};

// " ..." about what the tensors may be, "" where nothing is known.
std::string hint_of(const std::vector<std::string>& tensors) {
  for (const std::string& tensor : tensors)
    for (const KnownElsewhere& known : kElsewhere)
      if (tensor.ends_with(known.suffix))
        return fmt::format(" {}; if that is what the model is, say so in config.json.", known.hint);
  return "";
}

// At most so many of a kind are listed one by one.
std::string listed(const std::vector<std::string>& names) {
  std::vector<std::string> first(names.begin(), names.begin() + std::min(names.size(), kMaxListed));
  std::string text = join(first, ", ");
  if (names.size() > first.size()) text += fmt::format(" and {} more", names.size() - first.size());
  return text;
}

std::string shape_of(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ","));
}

std::vector<int64_t> stored_shape(const Parameter& parameter, StoredAs stored) {
  std::vector<int64_t> shape = parameter.type.shape;
  if (stored == StoredAs::transposed) std::swap(shape.at(0), shape.at(1));
  return shape;
}

// The row of a head that belongs to feature i of the first half (s = 0) or second half (s = 1) is
// stored at 2 i + s.
void separate_halves(const float* stored, float* out, int64_t heads, int64_t rows,
                     int64_t columns) {
  const int64_t d = rows / heads, half = d / 2;
  for (int64_t head = 0; head < heads; ++head)
    for (int64_t row = 0; row < d; ++row) {
      const int64_t from = head * d + 2 * (row % half) + row / half;
      std::memcpy(out + (head * d + row) * columns, stored + from * columns,
                  static_cast<size_t>(columns) * sizeof(float));
    }
}

// The newest checkpoint of a folder that `weir train` made, of a run or of one of its arms; ""
// where there is none. A folder with weights of its own is a model, whatever is below it.
std::string checkpoint_below(const fs::path& folder) {
  std::string newest;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored))
    if (entry.path().extension() == ".safetensors") return "";
  std::vector<fs::path> arms = {folder};
  for (const auto& entry : fs::directory_iterator(folder, ignored)) arms.push_back(entry.path());
  std::sort(arms.begin(), arms.end());
  for (const fs::path& arm : arms) {
    for (const auto& entry : fs::directory_iterator(arm / "checkpoints", ignored))
      if (fs::exists(entry.path() / "config.json", ignored))
        newest = std::max(newest, entry.path().string());
    if (!newest.empty()) return newest;
  }
  return "";
}

// The .gguf file of a folder that is not a model of Hugging Face; "" if there is none.
std::string only_gguf(const std::string& folder) {
  if (file_exists((fs::path(folder) / "config.json").string())) return "";
  const std::vector<std::string> found = gguf_models_in(folder);
  if (found.size() > 1)
    user_error("checkpoint", "{} holds {} models: {}. Give one of the files.", folder, found.size(),
               join(found, ", "));
  return found.empty() ? "" : found[0];
}

// The first value that is not finite, and how many there are; "" if all are.
std::string not_finite_in(const float* values, const StoredTensor& tensor) {
  int64_t elements = 1;
  for (int64_t size : tensor.shape) elements *= size;
  const auto bad = [](float value) {
    return (std::bit_cast<uint32_t>(value) & 0x7f800000U) == 0x7f800000U;
  };
  int64_t count = 0;
  for (int64_t i = 0; i < elements; ++i) count += bad(values[i]);
  if (count == 0) return "";
  const float* first = std::find_if(values, values + elements, bad);
  std::vector<int64_t> place(tensor.shape.size());
  int64_t rest = first - values;
  for (size_t axis = place.size(); axis-- > 0; rest /= tensor.shape[axis])
    place[axis] = rest % tensor.shape[axis];
  return fmt::format("{}: tensor {} has {} at {}{}", tensor.file, tensor.name,
                     std::isnan(*first) ? "NaN"
                     : *first > 0       ? "infinity"
                                        : "-infinity",
                     shape_of(place),
                     count == 1
                         ? std::string()
                         : fmt::format(", the first of {} values that are not finite", count));
}

}  // namespace

Checkpoint Checkpoint::open(const std::string& path) {
  if (!fs::exists(path))
    user_error("checkpoint",
               "there is no {}. Give the folder of a Hugging Face model or a .gguf file.", path);
  Checkpoint checkpoint;
  checkpoint.path_ = path;
  if (!fs::is_directory(path))
    checkpoint.open_gguf(path);
  else if (const std::string file = only_gguf(path); file.empty())
    checkpoint.open_folder();
  else
    checkpoint.open_gguf(file);
  for (const std::string& note : checkpoint.config_.notes) log_warning("{}", note);
  return checkpoint;
}

Model Checkpoint::build(int64_t B, int64_t T) const {
  Model model = build_model(config_, B, T);
  const std::lock_guard lock(findings_->mutex);
  if (T > stated_context(config_) && !std::exchange(findings_->warned_of_length, true))
    log_warning("sequences of {} tokens are longer than the {} that {} states as its context", T,
                stated_context(config_), path_);
  return model;
}

void Checkpoint::open_gguf(const std::string& file) {
  if (fs::path(file).extension() != ".gguf")
    user_error("checkpoint",
               "{} is no .gguf file. Give one, or the folder that holds config.json and the "
               "safetensors of a model.",
               file);
  GgufParts parts = GgufParts::open(file);
  gguf_ = parts.files().front();
  config_ = gguf_model_config(parts);
  config_.name = fs::path(file).stem().string();
  weights_ = gguf_weights(std::move(parts));
  locate(true);
}

void Checkpoint::open_folder() {
  if (const std::string inner = checkpoint_below(path_); !inner.empty())
    user_error("checkpoint",
               "{} is the folder of a run, which holds checkpoints. Give one of them, such as {}.",
               path_, inner);
  const fs::path config = fs::path(path_) / "config.json";
  if (!file_exists(config.string()))
    user_error("checkpoint", "{} holds neither config.json nor a .gguf file, so it is no model.",
               path_);
  config_ = parse_hugging_face_config(read_file(config.string()), config.string());
  const fs::path folder = fs::weakly_canonical(path_);
  config_.name = folder.filename().empty() ? folder.parent_path().filename().string()
                                           : folder.filename().string();
  weights_ = open_safetensors_folder(path_);
  locate(false);
}

void Checkpoint::locate(bool gguf) {
  std::map<std::string, size_t> index;
  for (size_t i = 0; i < weights_->tensors().size(); ++i) index[weights_->tensors()[i].name] = i;
  std::vector<bool> used(weights_->tensors().size());
  std::vector<std::string> missing;
  Problems problems("checkpoint");
  size_t misshapen = 0;
  const Architecture& architecture = architecture_of(config_);
  for (const Parameter& parameter : build_model(config_, 1, 1).parameters) {
    std::vector<std::string> names = hugging_face_names(architecture, parameter.name);
    // Of two names for one matrix a writer keeps one.
    if (config_.tied && parameter.name == embedding_of(config_))
      names.push_back(output_of(config_));
    StoredAs stored = StoredAs::same;
    if (gguf) {
      const GgufName name = gguf_name(architecture, parameter.name);
      names = {name.name};
      stored = name.stored;
    }
    auto found = index.end();
    for (const std::string& name : names)
      if (found == index.end()) found = index.find(name);
    if (found == index.end()) {
      missing.push_back(names.front());
      continue;
    }
    used[found->second] = true;
    places_[parameter.name] = {found->second, stored};
    const StoredTensor& tensor = weights_->tensors()[found->second];
    if (!tensor.real)
      problems.add(fmt::format("{}: tensor {} is {}, but weights are real numbers.", path_,
                               tensor.name, tensor.dtype));
    if (const auto needed = stored_shape(parameter, stored);
        tensor.shape != needed && ++misshapen <= kMaxListed)
      problems.add(fmt::format("{}: tensor {} is {}{}, but the configuration makes it {}.", path_,
                               tensor.name, tensor.dtype, shape_of(tensor.shape),
                               shape_of(needed)));
  }
  if (misshapen > kMaxListed)
    problems.add(
        fmt::format("{}: and {} more tensors of other shapes.", path_, misshapen - kMaxListed));
  if (!missing.empty())
    problems.add(fmt::format("{}: missing tensors: {}.", path_, listed(missing)));
  check_rest(used, gguf, problems);
  if (!problems.empty())  // which may come from what was decided
    for (const std::string& note : config_.notes) problems.add(note);
  problems.raise();
}

void Checkpoint::check_rest(const std::vector<bool>& used, bool gguf, Problems& problems) {
  std::vector<std::string> extra;
  std::map<std::string, size_t> unsaid;  // states of rewrites that the configuration does not name
  const std::string embedding = embedding_of(config_), output = output_of(config_);
  for (size_t i = 0; i < used.size(); ++i) {
    const StoredTensor& tensor = weights_->tensors()[i];
    if (used[i] || (!gguf && is_computed_table(architecture_of(config_), tensor.name))) continue;
    if (!gguf && config_.tied && tensor.name == output && places_.contains(embedding)) {
      const size_t table = places_.at(embedding).index;
      if (weights_->tensors()[table].shape == tensor.shape) {
        const auto elements = static_cast<size_t>(config_.vocabulary * config_.d_model);
        std::vector<float> head(elements), rows(elements);
        weights_->read(i, head.data());
        weights_->read(table, rows.data());
        if (std::memcmp(head.data(), rows.data(), elements * sizeof(float)) == 0) continue;
      }
      problems.add(
          fmt::format("{}: the configuration says that the output projection is the "
                      "embedding (tie_word_embeddings), but {} differs from it.",
                      path_, output));
      continue;
    }
    const RewriteState* state = find_rewrite_state(tensor.name);
    if (state && is_chosen(*state, config_.rewrites))
      places_[tensor.name] = {i, StoredAs::same};
    else if (state && !config_.rewrites.contains(state->key))
      unsaid[tensor.name] = i;
    else
      extra.push_back(tensor.name);
  }
  if (!unsaid.empty()) settle_states(unsaid, problems);
  if (!extra.empty())
    problems.add(fmt::format(
        "{}: tensors that {} does not have: {}.{}", path_,
        config_.rewrites.empty()
            ? config_.architecture
            : fmt::format("{} with {}", config_.architecture, rewrites_text(config_.rewrites)),
        listed(extra), hint_of(extra)));
}

void Checkpoint::settle_states(const std::map<std::string, size_t>& unsaid, Problems& problems) {
  std::vector<std::string> names;
  std::map<std::string, std::string> needed = config_.rewrites;
  bool published = true;
  for (const auto& [name, index] : unsaid) {
    const RewriteState& state = *find_rewrite_state(name);
    const std::vector<int64_t>& shape = weights_->tensors()[index].shape;
    names.push_back(name);
    needed.emplace(state.key, setting_of(state, shape, config_.heads));
    published = published && state.published && shape == std::vector{config_.heads};
  }
  if (!published || std::ssize(unsaid) != config_.layers) {
    problems.add(fmt::format(
        "{}: tensors of a rewrite that config.json does not speak of: {}. If the model was trained "
        "with it, put {} into config.json; every layer needs them. Otherwise take them out.",
        path_, listed(names), rewrites_text(needed)));
    return;
  }
  for (const auto& [name, index] : unsaid) places_[name] = {index, StoredAs::same};
  config_.rewrites = needed;
  config_.notes.push_back(
      fmt::format("{}: every layer has {}, of which config.json does not speak: the model is taken "
                  "for one that "
                  "was trained with {}.",
                  path_, find_rewrite_state(names[0])->suffix, rewrites_text(needed)));
}

const Checkpoint::Place& Checkpoint::place_of(const Parameter& parameter) const {
  auto found = places_.find(parameter.name);
  if (found == places_.end()) {
    std::vector<std::string> known;
    for (const auto& [name, place] : places_) known.push_back(name);
    std::sort(known.begin(), known.end());
    user_error("checkpoint", "{} has no weight {}.{}", path_, parameter.name,
               did_you_mean(parameter.name, known));
  }
  return found->second;
}

const std::string& Checkpoint::stored_dtype(const Parameter& parameter) const {
  return weights_->tensors()[place_of(parameter).index].dtype;
}

int64_t Checkpoint::largest_stored_bytes() const {
  int64_t largest = 0;
  for (const StoredTensor& tensor : weights_->tensors()) largest = std::max(largest, tensor.bytes);
  return largest;
}

bool Checkpoint::has(const Parameter& parameter) const {
  auto found = places_.find(parameter.name);
  return found != places_.end() && weights_->tensors()[found->second.index].shape ==
                                       stored_shape(parameter, found->second.stored);
}

void Checkpoint::read_stored(size_t index, float* out) const {
  weights_->read(index, out);
  std::string line = not_finite_in(out, weights_->tensors()[index]);
  if (line.empty()) return;
  const std::lock_guard lock(findings_->mutex);
  findings_->not_finite[index] = std::move(line);
}

std::vector<std::string> Checkpoint::not_finite() const {
  const std::lock_guard lock(findings_->mutex);
  std::vector<std::string> lines;
  for (const auto& [index, line] : findings_->not_finite) lines.push_back(line + ".");
  return lines;
}

void Checkpoint::need_finite() const {
  const std::vector<std::string> lines = not_finite();
  if (lines.empty()) return;
  Problems problems("checkpoint");
  for (size_t i = 0; i < std::min(lines.size(), kMaxListed); ++i) problems.add(lines[i]);
  if (lines.size() > kMaxListed)
    problems.add(fmt::format("and {} more tensors.", lines.size() - kMaxListed));
  problems.add(
      "Nothing that is computed from such weights means anything. Download or copy the files "
      "again, or repair the values in a copy (weir convert keeps them).");
  problems.raise();
}

void Checkpoint::read(const Parameter& parameter, float* out) const {
  const Place& place = place_of(parameter);
  if (place.stored == StoredAs::same) return read_stored(place.index, out);
  std::vector<float> stored(static_cast<size_t>(parameter.type.elements()));
  read_stored(place.index, stored.data());
  const int64_t rows = parameter.type.shape.at(0);
  const int64_t columns = static_cast<int64_t>(stored.size()) / rows;
  switch (place.stored) {
    case StoredAs::same:
      break;
    case StoredAs::transposed:
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < columns; ++j) out[i * columns + j] = stored[j * rows + i];
      break;
    case StoredAs::plus_one:
      std::transform(stored.begin(), stored.end(), out, [](float gain) { return gain - 1; });
      break;
    case StoredAs::interleaved_q:
      return separate_halves(stored.data(), out, config_.heads, rows, columns);
    case StoredAs::interleaved_k:
      return separate_halves(stored.data(), out, config_.kv_heads, rows, columns);
  }
}

std::unique_ptr<Tokenizer> Checkpoint::tokenizer() const {
  return gguf_ ? make_bpe_tokenizer(gguf_tokenizer(*gguf_)) : load_tokenizer(path_);
}

}  // namespace weir
