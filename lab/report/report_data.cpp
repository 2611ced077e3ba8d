#include "lab/report/report_data.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>

#include "io/file.h"
#include "io/json_text.h"
#include "lab/measure/metric_probes.h"
#include "lab/measure/record_keys.h"
#include "support/error.h"

namespace weir {

namespace fs = std::filesystem;
using nlohmann::json;
using nlohmann::ordered_json;

namespace {

// Gradients on the way into attention, which the page plots.
constexpr const char* path_keys[] = {"attn_in", "q", "k", "v"};

constexpr const char* kRepair =
    "Take the line out, and `weir train resume=FOLDER` with the run's folder computes it again.";

/// A JSON value with where it was read, so that every complaint names file, line and field.
class Field {
 public:
  /// `way_out`: a sentence that every complaint ends with, "" for none.
  Field(const json& value, std::string where, const char* way_out = "")
      : value_(value), where_(std::move(where)), way_out_(way_out) {}

  bool has(const char* key) const { return value_.is_object() && value_.contains(key); }

  Field operator[](const char* key) const {
    if (!has(key)) fail(fmt::format("the field \"{}\" is missing", key));
    return {value_.at(key), fmt::format("{}, \"{}\"", where_, key), way_out_};
  }

  Field operator[](size_t i) const {
    return {elements().at(i), fmt::format("{}[{}]", where_, i), way_out_};
  }

  const json& elements() const {
    if (!value_.is_array()) fail(fmt::format("an array is needed, found {}", shown()));
    return value_;
  }

  const json& object() const {
    if (!value_.is_object()) fail(fmt::format("an object is needed, found {}", shown()));
    return value_;
  }

  double number() const {
    if (value_.is_number()) return value_.get<double>();
    if (value_ == "NaN") return kNaN;
    if (value_ == "Infinity") return std::numeric_limits<double>::infinity();
    if (value_ == "-Infinity") return -std::numeric_limits<double>::infinity();
    fail(fmt::format("a number, \"NaN\", \"Infinity\" or \"-Infinity\" is needed, found {}",
                     shown()));
  }

  std::string text() const {
    if (!value_.is_string()) fail(fmt::format("a text is needed, found {}", shown()));
    return value_.get<std::string>();
  }

  int64_t integer() const {
    if (!value_.is_number_integer()) fail(fmt::format("an integer is needed, found {}", shown()));
    return value_.get<int64_t>();
  }

  std::vector<double> numbers() const {
    std::vector<double> result;
    for (size_t i = 0; i < elements().size(); ++i) result.push_back((*this)[i].number());
    return result;
  }

  [[noreturn]] void fail(const std::string& why) const {
    user_error("report", "{}: {}.{}{}", where_, why, *way_out_ ? " " : "", way_out_);
  }

 private:
  std::string shown() const {
    std::string text = value_.dump();
    return text.size() > 60 ? text.substr(0, 57) + "..." : text;
  }

  const json& value_;
  std::string where_;
  const char* way_out_;
};

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (double value : values) sum += value;
  return values.empty() ? kNaN : sum / static_cast<double>(values.size());
}

/// Largest entry; NaN when there is none or any is NaN, since a NaN must not be hidden by a
/// maximum.
double largest(const std::vector<double>& values) {
  double result = values.empty() ? kNaN : values[0];
  for (double value : values) {
    if (std::isnan(value)) return kNaN;
    result = std::max(result, value);
  }
  return result;
}

/// Mean over tokens first..last without the sink token, cut to what exists.
double mean_others(const std::vector<double>& values, int sink, int64_t first, int64_t last) {
  std::vector<double> others;
  for (int64_t t = first; t <= last && t < static_cast<int64_t>(values.size()); ++t)
    if (t != sink) others.push_back(values[static_cast<size_t>(t)]);
  return mean(others);
}

/// Reduces the records of one arm.
class RecordReader {
 public:
  RecordReader(ReportArm& arm) : arm_(arm) {}

  void read(const Field& line) {
    describe(line);
    MeasuredStep step;
    step.step = line["step"].integer();
    if (!arm_.measured.empty() && step.step <= arm_.measured.back().step)
      line["step"].fail(fmt::format("steps must ascend, found {} after {}", step.step,
                                    arm_.measured.back().step));
    step.loss = line["loss"].number();
    const Field layers = line["layers"];
    if (layers.elements().size() != layers_)
      layers.fail(fmt::format("{} layers are needed, found {}", layers_, layers.elements().size()));
    for (size_t l = 0; l < layers_; ++l) layer(layers[l], step);
    arm_.measured.push_back(std::move(step));
  }

 private:
  void describe(const Field& line) {
    if (layers_ > 0) return;
    layers_ = static_cast<size_t>(line["model"]["layers"].integer());
    heads_ = static_cast<size_t>(line["model"]["heads"].integer());
    length_ = static_cast<size_t>(line["tokens"]["length"].integer());
    sink_ = static_cast<int>(line["settings"]["sink_token"].integer());
    if (sink_ < 0 || static_cast<size_t>(sink_) >= length_)
      line["settings"]["sink_token"].fail(
          fmt::format("token {} does not exist in {} tokens", sink_, length_));
    window_ = static_cast<int>(line["settings"]["gradient_window"].integer());
    line["settings"]["sink_threshold"].number();
    if (line["settings"].has("v_scale")) line["settings"]["v_scale"].text();
    leaves_out_ = line.has("left_out");
    if (!arm_.measured.empty()) return;
    arm_.model = line["model"].object();
    arm_.tokens = line["tokens"].object();
    arm_.settings = line["settings"].object();
    arm_.kept_tokens = kept_tokens(static_cast<int>(length_));
    if (leaves_out_)
      for (size_t i = 0; i < line["left_out"].elements().size(); ++i)
        arm_.left_out.push_back(line["left_out"][i].text());
  }

  void layer(const Field& layer, MeasuredStep& step) {
    const auto [first, last] = kOtherTokens;
    for (const RecordKey& key : kLayerKeys) {
      if ((key.optional || leaves_out_) && !layer.has(key.name)) continue;
      switch (key.kind) {
        case RecordKind::number:
          step.by_layer[key.name].push_back(layer[key.name].number());
          break;
        case RecordKind::heads:
          heads(layer, key.name, step);
          break;
        case RecordKind::tokens:
          tokens(layer, key.name, "", first, last, step);
          break;
        case RecordKind::other:
          break;
      }
    }
    const Field norm = layer["norm"], gradient = layer["grad_norm"];
    const auto there = [&](const Field& parent, const char* key) {
      return !leaves_out_ || parent.has(key);
    };
    for (const HookOfKey& stream : stream_hooks())
      if (there(norm, stream.key)) tokens(norm, stream.key, "norm.", first, last, step);
    if (there(norm, "value")) tokens(norm, "value", "norm.", first, last, step);
    if (norm.has("value_scaled")) tokens(norm, "value_scaled", "norm.", first, last, step);
    if (layer.has("value_norm_by_head")) value_heads(layer["value_norm_by_head"], step);
    for (const char* key : path_keys)
      if (there(gradient, key)) tokens(gradient, key, "grad.", 0, window_, step);
    if (gradient.has("v_scaled")) tokens(gradient, "v_scaled", "grad.", 0, window_, step);
  }

  void heads(const Field& layer, const std::string& key, MeasuredStep& step) {
    std::vector<double> values = layer[key.c_str()].numbers();
    if (values.size() != heads_)
      layer[key.c_str()].fail(fmt::format("{} heads are needed, found {}", heads_, values.size()));
    step.by_layer[key].push_back(mean(values));
    const bool shows_largest = key == "sink_score" || key == "sink_mass";
    if (shows_largest) step.by_layer[key + "_max"].push_back(largest(values));
    if (shows_largest || key == "row_sum") step.by_head[key].push_back(std::move(values));
  }

  // The ratio of the value norm of each key and value head: rows of one number a token.
  void value_heads(const Field& norms, MeasuredStep& step) {
    const auto [first, last] = kOtherTokens;
    std::vector<double> ratios;
    for (size_t h = 0; h < norms.elements().size(); ++h) {
      const std::vector<double> values = norms[h].numbers();
      if (values.size() != length_)
        norms[h].fail(fmt::format("{} tokens are needed, found {}", length_, values.size()));
      const double others = mean_others(values, sink_, first, last);
      ratios.push_back(others == 0 ? kNaN : values[static_cast<size_t>(sink_)] / others);
    }
    step.by_head["norm.value.ratio"].push_back(std::move(ratios));
  }

  void tokens(const Field& parent, const char* key, const std::string& prefix, int64_t first,
              int64_t last, MeasuredStep& step) {
    const std::vector<double> values = parent[key].numbers();
    if (values.size() != length_)
      parent[key].fail(fmt::format("{} tokens are needed, found {}", length_, values.size()));
    const std::string name = prefix + key;
    const double sink = values[static_cast<size_t>(sink_)];
    const double others = mean_others(values, sink_, first, last);
    step.by_layer[name + ".sink"].push_back(sink);
    step.by_layer[name + ".others"].push_back(others);
    step.by_layer[name + ".ratio"].push_back(others == 0 ? kNaN : sink / others);
    if (prefix.empty()) return;
    std::vector<double> kept;
    for (int t : arm_.kept_tokens) kept.push_back(values[static_cast<size_t>(t)]);
    step.by_token[name].push_back(std::move(kept));
  }

  ReportArm& arm_;
  size_t layers_ = 0, heads_ = 0, length_ = 0;
  int sink_ = 0, window_ = 0;
  bool leaves_out_ = false;  ///< what the model's hooks do not carry
};

std::string read_text(const fs::path& file) {
  if (!fs::exists(file))
    user_error("report",
               "cannot read {}; a report needs the folder of a run as `weir train` writes it",
               file.string());
  return read_file(file.string());
}

template <typename Json>
Json read_json(const fs::path& file) {
  return parse_json<Json>(read_text(file), "report", file.string());
}

// The same as fields.
template <typename Use>
void for_each_field(const fs::path& file, Use use) {
  for_each_line(file, [&](const json& value, const std::string& where) {
    use(Field(value, where, kRepair));
  });
}

// `every_step`: a line of each is needed; else steps ascend.
LossCurve read_losses(const fs::path& file, const std::vector<const char*>& other_columns,
                      bool every_step) {
  LossCurve curve;
  for_each_field(file, [&](const Field& line) {
    const int64_t step = line["step"].integer();
    const int64_t expected = static_cast<int64_t>(curve.step.size());
    if (!every_step && !curve.step.empty() && step <= curve.step.back())
      line["step"].fail(
          fmt::format("steps must ascend, found {} after {}", step, curve.step.back()));
    if (every_step && step != expected)
      line["step"].fail(fmt::format("a line of every step is needed, found {} in the place of {}",
                                    step, expected));
    curve.step.push_back(step);
    curve.columns["loss"].push_back(line["loss"].number());
    for (const char* key : other_columns)
      curve.columns[key].push_back(line.has(key) ? line[key].number() : kNaN);
  });
  // Only some data tell it.
  if (const auto found = curve.columns.find("recalled"); found != curve.columns.end())
    if (std::all_of(found->second.begin(), found->second.end(),
                    [](double x) { return std::isnan(x); }))
      curve.columns.erase(found);
  return curve;
}

void check_maps(const ReportArm& arm, const fs::path& file) {
  const Field maps(arm.maps, file.string());
  for (size_t i = 0; i < maps.elements().size(); ++i) {
    const Field map = maps[i];
    map["step"].integer();
    map["layer"].integer();
    map["head"].integer();
    const size_t length = map["map"].elements().size();
    if (length == 0) map["map"].fail("a map needs at least one row");
    for (size_t t = 0; t < length; ++t)
      if (map["map"][t].numbers().size() != length)
        map["map"][t].fail(fmt::format("a map is square: {} weights are needed", length));
    if (map["tokens"].elements().size() != length)
      map["tokens"].fail(fmt::format("{} tokens are needed, one a row of the map", length));
    if (!map.has("start")) continue;
    int64_t before = -1;
    for (double start : map["start"].numbers()) {
      if (start <= static_cast<double>(before))
        map["start"].fail("the first tokens of cells ascend");
      before = static_cast<int64_t>(start);
    }
    if (map["start"].elements().size() != length || map["length"].integer() <= before)
      map["start"].fail(fmt::format("{} first tokens are needed, all below length", length));
  }
}

void read_metrics(const fs::path& folder, ReportArm& arm) {
  RecordReader reader(arm);
  for_each_field(folder / "metrics.jsonl", [&](const Field& line) { reader.read(line); });
  if (arm.measured.empty())
    user_error("report", "{} holds no measured step; a report needs at least one",
               (folder / "metrics.jsonl").string());
}

ReportArm read_arm(const fs::path& run, const Field& entry, const ordered_json& overrides) {
  ReportArm arm;
  arm.name = entry["name"].text();
  arm.overrides = overrides;
  const std::string name = entry["folder"].text();
  if (name.find('/') != std::string::npos || name == "..")
    entry["folder"].fail("the folder of an arm is in that of the run");
  const fs::path folder = run / name;
  arm.training = read_losses(folder / "loss.jsonl", {"lr", "grad_norm", "tokens_per_second"}, true);
  if (fs::exists(folder / "validation.jsonl"))
    arm.validation = read_losses(folder / "validation.jsonl", {"tokens", "recalled"}, false);
  read_metrics(folder, arm);
  if (fs::exists(folder / "maps.json")) {
    arm.maps = read_json<json>(folder / "maps.json");
    check_maps(arm, folder / "maps.json");
  }
  if (fs::exists(folder / "not_finite.json"))
    arm.not_finite = read_json<json>(folder / "not_finite.json");
  if (fs::exists(folder / "profile.json")) {
    arm.profile = read_json<json>(folder / "profile.json");
    if (!arm.profile.is_object() || arm.profile.value("format", "") != "weir.profile/1")
      user_error("report", "{} is no profile: its \"format\" is not \"weir.profile/1\".",
                 (folder / "profile.json").string());
  }
  return arm;
}

}  // namespace

void for_each_line(const fs::path& file,
                   const std::function<void(const json& line, const std::string& where)>& use,
                   size_t most) {
  if (!fs::exists(file))
    user_error("report", "cannot read {}; a report needs it of every arm listed in run.json",
               file.string());
  const MappedFile mapped(file.string());
  const std::string_view whole = mapped.text();
  size_t next = 0;
  for (int line = 1; next < whole.size() && most > 0; ++line) {
    const size_t end = std::min(whole.find('\n', next), whole.size());
    const std::string_view text = whole.substr(next, end - next);
    next = end + 1;
    if (text.find_first_not_of(" \t\r") == text.npos) continue;
    const std::string where = fmt::format("{}:{}", file.string(), line);
    json value;
    try {
      value = json::parse(text);
    } catch (const json::parse_error& error) {
      user_error("report", "{}: this line is damaged at column {} of {}. {}", where, error.byte,
                 text.size(), kRepair);
    }
    if (const std::vector<std::string> twice = repeated_keys(text); !twice.empty())
      user_error("report", "{}: this line is damaged: an object in it has the key \"{}\" twice. {}",
                 where, twice.front(), kRepair);
    use(value, where);
    --most;
  }
}

std::vector<int> kept_tokens(int length) {
  std::vector<int> kept;
  for (int t = 0; t < length && t < 32; ++t) kept.push_back(t);
  for (int i = 1; !kept.empty() && kept.back() < length - 1 && length > 32; ++i) {
    const int t = static_cast<int>(std::lround(31 * std::exp2(i / 12.0)));
    kept.push_back(std::min(t, length - 1));
  }
  return kept;
}

ReportArm arm_of_record(const json& record, const std::string& name) {
  ReportArm arm;
  arm.name = name;
  json line = record;
  if (!line.contains("step")) line["step"] = 0;
  RecordReader(arm).read(Field(line, name));
  return arm;
}

ReportArm read_measured(const fs::path& arm_folder, const std::string& name) {
  ReportArm arm;
  arm.name = name;
  read_metrics(arm_folder, arm);
  return arm;
}

void add_record(ReportArm& arm, const json& record, const std::string& where) {
  RecordReader(arm).read(Field(record, where));
}

ReportRun read_run(const fs::path& folder) {
  if (!fs::is_directory(folder))
    user_error("report", "{} is not a folder; a report needs the folder of a run", folder.string());
  ReportRun run;
  run.folder = folder;
  run.run = read_json<ordered_json>(folder / "run.json");
  run.config = read_json<ordered_json>(folder / "config.json");
  const json plain = json::parse(run.run.dump());
  const Field field(plain, (folder / "run.json").string());
  for (const char* key : {"name", "command"})
    if (field.has(key)) field[key].text();
  const Field arms = field["arms"];
  if (arms.elements().empty()) arms.fail("a run has at least one arm");
  for (size_t i = 0; i < arms.elements().size(); ++i) {
    const ordered_json& entry = run.run["arms"][i];
    run.arms.push_back(
        read_arm(folder, arms[i],
                 entry.contains("overrides") ? entry["overrides"] : ordered_json::object()));
  }
  return run;
}

}  // namespace weir
