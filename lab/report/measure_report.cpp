#include "lab/report/measure_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "io/file.h"
#include "lab/measure/record_keys.h"
#include "lab/report/measure_summary.h"
#include "lab/report/page_text.h"
#include "lab/report/report_assets.h"
#include "lab/report/report_page.h"
#include "lab/report/report_summary.h"
#include "support/text.h"

namespace weir {

using nlohmann::json;
using nlohmann::ordered_json;

namespace {

constexpr size_t kScatterTokens = kOtherTokens.last + 1;
constexpr size_t kMassiveShown = 24;

json five_digits(const json& value) {
  if (value.is_number())
    return std::strtod(fmt::format("{:.5g}", value.get<double>()).c_str(), nullptr);
  if (!value.is_array()) return nullptr;  // NaN and infinities
  json result = json::array();
  for (const json& element : value) result.push_back(five_digits(element));
  return result;
}

/// Norm of the branch's input and the ratios of gradients, of the first tokens of each layer.
json scatter(const json& record, const std::string& branch, const char* input) {
  json result = json::object();
  for (const json& layer : record["layers"]) {
    const auto add = [&](const std::string& key, const json& tokens) {
      json first = json::array();
      for (size_t t = 0; t < std::min(kScatterTokens, tokens.size()); ++t)
        first.push_back(five_digits(tokens[t]));
      result[key].push_back(first);
    };
    const auto ratio_key = [&](const char* ratio) { return fmt::format("{}_{}", ratio, branch); };
    if (!layer["norm"].contains(input) ||
        std::any_of(kBranchRatios.begin(), kBranchRatios.end(),
                    [&](const char* ratio) { return !layer.contains(ratio_key(ratio)); }))
      return json::object();  // what a model of one's own does not name
    add("norm", layer["norm"][input]);
    for (const char* ratio : kBranchRatios) add(ratio, layer[ratio_key(ratio)]);
  }
  return result;
}

/// The measurement as the one arm of a run, so that its curves are thinned alike.
ReportRun as_run(const json& record, const MeasureReport& report) {
  ReportRun run;
  run.arms.push_back(arm_of_record(record, "measurement"));
  for (const AttentionMap& map : report.maps) {
    std::vector<std::string> tokens;
    for (int64_t cell = 0; cell < map.cells.count(); ++cell)
      tokens.push_back(report.token_texts.at(static_cast<size_t>(map.cells.start(cell))));
    run.arms[0].maps.push_back(json::parse(map_json(map, 0, tokens)));
  }
  return run;
}

std::string measure_table_html(const json& record) {
  const LayerTable table = layer_table(record);
  std::vector<Cell> header;
  for (const std::string& cell : table.header) header.push_back({escaped(cell)});
  std::vector<std::vector<Cell>> rows;
  for (const auto& texts : table.rows) {
    std::vector<Cell>& row = rows.emplace_back();
    for (const std::string& text : texts) row.push_back({escaped(text)});
    row.back().words = true;
    if (texts.back().find(" at ") != std::string::npos)
      row.back().html = "<b>" + row.back().html + "</b>";
  }
  return number_table(header, rows);
}

/// "2-8, 11": runs of ascending numbers.
std::string ranges(const std::vector<int64_t>& numbers) {
  std::vector<std::string> parts;
  for (size_t i = 0; i < numbers.size();) {
    size_t end = i;
    while (end + 1 < numbers.size() && numbers[end + 1] == numbers[end] + 1) ++end;
    parts.push_back(end == i ? fmt::format("{}", numbers[i])
                             : fmt::format("{}-{}", numbers[i], numbers[end]));
    i = end + 1;
  }
  return join(parts, ", ");
}

struct MassivePlace {
  int64_t sequence = 0, token = 0, feature = 0;
  double value = 0;  ///< the largest over sequences and layers
  std::vector<int64_t> layers;
};

/// Massive activations by token and feature, largest first.
std::vector<MassivePlace> massive_places(const json& record) {
  std::map<std::pair<int64_t, int64_t>, MassivePlace> places;
  for (const json& layer : record["layers"])
    for (const json& entry : layer.value("massive_activations", json::array())) {
      const auto token = entry["token"].get<int64_t>(), feature = entry["feature"].get<int64_t>();
      const double value = entry["value"].is_number() ? entry["value"].get<double>() : INFINITY;
      MassivePlace& place = places[{token, feature}];
      if (place.layers.empty() || std::abs(value) > std::abs(place.value)) {
        place.sequence = entry["sequence"].get<int64_t>();
        place.token = token;
        place.feature = feature;
        place.value = value;
      }
      const auto l = layer["layer"].get<int64_t>();
      if (place.layers.empty() || place.layers.back() != l) place.layers.push_back(l);
    }
  std::vector<MassivePlace> sorted;
  for (auto& [at, place] : places) sorted.push_back(std::move(place));
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
    return std::abs(a.value) > std::abs(b.value);
  });
  return sorted;
}

std::string massive_html(const json& record, const std::vector<std::string>& texts,
                         std::vector<std::string>& notes) {
  const std::vector<MassivePlace> places = massive_places(record);
  if (places.empty()) return "<p>No activation is massive by this criterion.</p>";
  if (places.size() > kMassiveShown)
    notes.push_back(fmt::format("massive activations: the {} largest of {} places", kMassiveShown,
                                places.size()));
  const auto T = record["tokens"]["length"].get<int64_t>();
  std::vector<std::vector<Cell>> rows;
  for (size_t i = 0; i < std::min(kMassiveShown, places.size()); ++i) {
    const MassivePlace& place = places[i];
    const std::string& token = texts.at(static_cast<size_t>(place.sequence * T + place.token));
    rows.push_back({{short_number(place.value)},
                    {fmt::format("{}", place.token)},
                    {"<code>" + escaped(token) + "</code>", true},
                    {fmt::format("{}", place.sequence)},
                    {fmt::format("{}", place.feature)},
                    {ranges(place.layers), true}});
  }
  return number_table({{"value"},
                       {"token"},
                       {"text", true},
                       {"sequence"},
                       {"feature"},
                       {"massive in layers", true}},
                      rows);
}

std::string caveat_of(const json& record) {
  const json& settings = record["settings"];
  const json& null_score = record["layers"][0]["sink_score_null"];
  return sink_rate_caveat(settings["sink_threshold"].get<double>(),
                          null_score.is_number() ? null_score.get<double>() : NAN,
                          settings["sink_window"].get<int64_t>());
}

/// What the numbers say, in sentences.
std::string story_html(const json& record) {
  const LayerNumbers numbers = layer_numbers(record);
  const auto sink = record["settings"]["sink_token"].get<int64_t>();
  std::vector<int64_t> sinking, massive;
  for (size_t l = 0; l < numbers.sink_rate.size(); ++l) {
    if (numbers.sink_rate[l] >= 0.5) sinking.push_back(static_cast<int64_t>(l));
    if (!record["layers"][l]["massive_activations"].empty())
      massive.push_back(static_cast<int64_t>(l));
  }
  std::string text = fmt::format(
      "<p>Mean loss {:.4f} nats over {} targets. ", numbers.loss,
      record["tokens"]["batch"].get<int64_t>() * record["tokens"]["length"].get<int64_t>());
  if (const std::string caveat = caveat_of(record); !caveat.empty())
    text += "<b>" + escaped(caveat) + "</b> ";
  else
    text += fmt::format("Over all layers, {:.0f} % of heads and sequences sink at token {}. {}",
                        100 * numbers.mean_sink_rate, sink,
                        sinking.empty() ? "In no layer does half of the heads. "
                                        : fmt::format("Half of the heads or more do in layers {}. ",
                                                      ranges(sinking)));
  text += fmt::format(
      "The gradient at token {} is {} times that of its neighbours (median over layers; quartiles "
      "{} and {}). ",
      sink, short_number(numbers.ratio_median), short_number(numbers.ratio_quartiles[0]),
      short_number(numbers.ratio_quartiles[1]));
  text += massive.empty()
              ? "No activation of the residual stream is massive."
              : fmt::format(
                    "Massive activations stand in the residual stream after layers {}; the "
                    "largest is {}.",
                    ranges(massive), short_number(massive_places(record)[0].value));
  return text + "</p>";
}

/// What the statistics of attention are of where rows do not sum to one; nothing elsewhere.
std::string row_sum_html(const json& layer) {
  if (!layer.contains("row_sum")) return "";
  return " Its rows do not sum to one: score, mass, second moment and entropy are of weights "
         "divided "
         "by their row's sum, and <b>row sum</b> is the mean of that sum over sequences and "
         "queries.";
}

/// Features that are among the largest on nearly all tokens, by layer; records of earlier versions
/// do not say.
std::string residual_sinks_html(const json& record) {
  std::map<int64_t, std::vector<int64_t>> layers_of;  // by feature
  for (const json& layer : record["layers"]) {
    if (!layer.contains("residual_sinks")) return "";
    for (const json& sink : layer["residual_sinks"])
      layers_of[sink["feature"].get<int64_t>()].push_back(layer["layer"].get<int64_t>());
  }
  const json& settings = record["settings"];
  const std::string criterion =
      fmt::format("among the {} largest |x| on more than {:.0f} % of all tokens",
                  settings["residual_sink_top"].get<int64_t>(),
                  100 * settings["residual_sink_share"].get<double>());
  if (layers_of.empty()) return "No feature is a residual sink, " + criterion + ".";
  std::vector<std::string> parts;
  for (const auto& [feature, layers] : layers_of)
    parts.push_back(fmt::format("{} (layers {})", feature, ranges(layers)));
  return fmt::format("<b>Residual sinks</b>, features {} (arXiv 2601.22966): {}.", criterion,
                     join(parts, ", "));
}

/// Tokens whose largest input of the MLP's last projection is far above that of most.
std::string outlier_tokens_html(const json& record) {
  std::vector<std::string> parts;
  for (const json& layer : record["layers"]) {
    if (!layer.contains("outlier_tokens")) continue;
    std::set<int64_t> tokens;
    for (const json& place : layer["outlier_tokens"]) tokens.insert(place["token"].get<int64_t>());
    if (!tokens.empty())
      parts.push_back(fmt::format("layer {}: {}", layer["layer"].get<int64_t>(),
                                  ranges({tokens.begin(), tokens.end()})));
  }
  if (!record["settings"].contains("outlier_token_ratio")) return "";
  const double ratio = record["settings"]["outlier_token_ratio"].get<double>();
  if (parts.empty())
    return fmt::format(
        "No token is an outlier of the input of the MLP's last projection, with a peak |x| above "
        "{:.0f} times the median peak (PrefixQuant).",
        ratio);
  return fmt::format(
      "<b>Outlier tokens</b>, whose peak |x| before the MLP's last projection is above {:.0f} "
      "times "
      "the median peak (PrefixQuant), at positions: {}.",
      ratio, join(parts, "; "));
}

}  // namespace

std::vector<std::pair<int64_t, int64_t>> heads_to_show(const std::string& text) {
  const json record = json::parse(text);
  std::pair<int64_t, int64_t> most, least;
  double largest = -INFINITY, smallest = INFINITY;
  for (size_t l = 0; l < record["layers"].size(); ++l)
    for (size_t h = 0; h < record["layers"][l]["sink_mass"].size(); ++h) {
      const json& mass = record["layers"][l]["sink_mass"][h];
      if (!mass.is_number()) continue;
      const std::pair<int64_t, int64_t> head = {l, h};
      if (mass.get<double>() > largest) largest = mass.get<double>(), most = head;
      if (mass.get<double>() < smallest) smallest = mass.get<double>(), least = head;
    }
  if (most == least) return {most};
  return {most, least};
}

std::string measure_page(const MeasureReport& report) {
  const json record = json::parse(report.record);
  PageData curves = page_data(as_run(record, report));
  const json data = {{"arm", std::move(curves.data["arms"][0])},
                     {"others", fmt::format("{}-{}", kOtherTokens.first, kOtherTokens.last)},
                     {"scatter",
                      {{"attn", scatter(record, "attn", "resid_pre")},
                       {"mlp", scatter(record, "mlp", "resid_mid")}}}};
  const json& first = record["layers"][0];
  const auto null_of = [&](const char* key) { return escaped(plain(five_digits(first[key]))); };
  std::map<std::string, std::string> texts = {
      {"story", story_html(record)},
      {"table", measure_table_html(record)},
      {"massive", massive_html(record, report.token_texts, curves.notes)},
      {"command", escaped(report.command)},
      {"settings", key_table(record["settings"])},
      {"versions", versions_html(record)},
      {"origin", origin_html(record)},
      {"notes", notes_html(curves.notes, "the record (<code>--json</code>)")},
      {"row_sum", row_sum_html(first)},
      {"residual_sinks", residual_sinks_html(record)},
      {"outlier_tokens", outlier_tokens_html(record)},
      {"one_layer", record["layers"].size() == 1
                        ? "<p>This model has one layer: numbers that would be curves over layers "
                          "are listed.</p>"
                        : ""},
      {"rate_caveat", escaped(caveat_of(record))},
      {"null_score", null_of("sink_score_null")},
      {"null_mass", null_of("sink_mass_null")}};
  for (const char* key : {"sink_token", "sink_window", "sink_threshold", "gradient_window",
                          "massive_absolute", "massive_ratio", "attention"})
    texts[key] = escaped(plain(record["settings"][key]));
  return framed({.kind = "Weir measurement",
                 .kicker = "Weir measurement",
                 .title = escaped(record["model"]["name"].get<std::string>()),
                 .meta = escaped(fmt::format(
                     "{} layers · {} heads · d_model {} · d_ff {} · {} parameters · measured "
                     "on {} × {} tokens · V-scale {} · attention {}",
                     plain(record["model"]["layers"]), plain(record["model"]["heads"]),
                     plain(record["model"]["d_model"]), plain(record["model"]["d_ff"]),
                     plain(record["model"]["parameters"]), plain(record["tokens"]["batch"]),
                     plain(record["tokens"]["length"]), plain(record["settings"]["v_scale"]),
                     plain(record["settings"]["attention"]))),
                 .script = measure_script(),
                 .data = data},
                measure_template(), texts);
}

int64_t measure_report_bytes(int64_t batch, int64_t length, int64_t maps) {
  constexpr int64_t a_text = 64, page = int64_t{32} << 20;
  return batch * length * a_text + maps * map_bytes(length) + page;
}

void write_measure_report(const std::string& html, const MeasureReport& report) {
  write_file(html, measure_page(report));
}

}  // namespace weir
