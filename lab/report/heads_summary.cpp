#include "lab/report/heads_summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "lab/report/heads_report.h"
#include "lab/report/report_summary.h"
#include "lab/report/terminal_table.h"

namespace weir {
namespace {

using nlohmann::json;

constexpr size_t kLayersByHead = 4;

double heads_number(const json& value) {
  return value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN();
}

std::string heads_cell(const json& value) {
  const double number = heads_number(value);
  return std::isnan(number) ? "-" : short_number(number);
}

// "+0.0123 (0.0021)": a difference with its standard error.
std::string difference_cell(const json& loss) {
  const double difference = heads_number(loss.at("difference"));
  if (std::isnan(difference)) return "-";
  std::string text = (difference < 0 ? "" : "+") + short_number(difference);
  if (loss.at("standard_error").is_number())
    text += fmt::format(" ({})", short_number(loss.at("standard_error").get<double>()));
  return text;
}

bool has_similarity(const json& record) {
  return record.at("layers").at(0).contains("map_similarity");
}
bool has_gate(const json& record) {
  const json& layers = record.at("layers");
  return std::any_of(layers.begin(), layers.end(),
                     [](const json& layer) { return layer.at("heads").at(0).contains("gate"); });
}

// The head most like `h`: "3: 0.912".
std::string nearest(const json& matrix, size_t h) {
  size_t best = h;
  for (size_t g = 0; g < matrix.size(); ++g)
    if (g != h && matrix[h][g].is_number() &&
        (best == h || matrix[h][g].get<double>() > matrix[h][best].get<double>()))
      best = g;
  return best == h ? "-" : fmt::format("{}: {}", best, short_number(matrix[h][best].get<double>()));
}

std::string mean_of_pairs(const json& matrix) {
  double sum = 0, count = 0;
  for (size_t h = 0; h < matrix.size(); ++h)
    for (size_t g = h + 1; g < matrix.size(); ++g)
      if (matrix[h][g].is_number()) sum += matrix[h][g].get<double>(), count += 1;
  return count > 0 ? short_number(sum / count) : "-";
}

std::string mean_of_heads(const json& layer, const char* key) {
  double sum = 0;
  for (const json& head : layer.at("heads")) sum += heads_number(head.value(key, json()));
  return heads_cell(sum / static_cast<double>(layer.at("heads").size()));
}

}  // namespace

HeadsRows head_rows(const json& record) {
  const json& ablations = record.at("settings").at("ablations");
  const bool gate = has_gate(record), similarity = has_similarity(record);
  HeadsRows rows(1);
  rows[0] = {"head"};
  for (const json& name : ablations) rows[0].push_back(name.get<std::string>() + " ablation");
  for (const char* name : {"norm", "sink score", "row sum"}) rows[0].emplace_back(name);
  if (gate) rows[0].emplace_back("gate");
  if (similarity) rows[0].insert(rows[0].end(), {"most like, map", "most like, output"});
  for (const json& layer : record.at("layers"))
    for (size_t h = 0; h < layer.at("heads").size(); ++h) {
      const json& head = layer.at("heads")[h];
      std::vector<std::string> row = {fmt::format("{}.{}", layer.at("layer").get<int64_t>(), h)};
      for (const json& name : ablations)
        row.push_back(difference_cell(head.at(name.get<std::string>())));
      for (const char* key : {"norm", "sink_score", "row_sum"})
        row.push_back(heads_cell(head.at(key)));
      if (gate) row.push_back(heads_cell(head.value("gate", json())));
      if (similarity) {
        row.push_back(nearest(layer.at("map_similarity"), h));
        row.push_back(nearest(layer.at("output_similarity"), h));
      }
      rows.push_back(std::move(row));
    }
  return rows;
}

HeadsRows head_layer_rows(const json& record) {
  const json& ablations = record.at("settings").at("ablations");
  const bool gate = has_gate(record), similarity = has_similarity(record);
  HeadsRows rows(1);
  rows[0] = {"layer"};
  for (const json& name : ablations)
    for (const char* which : {"least", "largest"})
      rows[0].push_back(fmt::format("{}, {}", name.get<std::string>(), which));
  for (const char* name : {"norm", "sink score", "row sum"}) rows[0].emplace_back(name);
  if (gate) rows[0].emplace_back("gate");
  if (similarity) rows[0].insert(rows[0].end(), {"map similarity", "output similarity"});
  for (const json& layer : record.at("layers")) {
    const json& heads = layer.at("heads");
    std::vector<std::string> row = {fmt::format("{}", layer.at("layer").get<int64_t>())};
    for (const json& name : ablations) {
      const auto difference = [&](size_t h) {
        return heads_number(heads[h].at(name.get<std::string>()).at("difference"));
      };
      size_t least = 0, largest = 0;
      for (size_t h = 1; h < heads.size(); ++h) {
        if (difference(h) < difference(least)) least = h;
        if (difference(h) > difference(largest)) largest = h;
      }
      for (size_t h : {least, largest})
        row.push_back(
            fmt::format("{}: {}{}", h, difference(h) < 0 ? "" : "+", short_number(difference(h))));
    }
    for (const char* key : {"norm", "sink_score", "row_sum"})
      row.push_back(mean_of_heads(layer, key));
    if (gate) row.push_back(mean_of_heads(layer, "gate"));
    if (similarity) {
      row.push_back(mean_of_pairs(layer.at("map_similarity")));
      row.push_back(mean_of_pairs(layer.at("output_similarity")));
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

HeadsRows pruning_rows(const json& record) {
  HeadsRows rows = {{"removed", "head", "loss", "difference"}};
  const json& curve = record.at("curve");
  for (size_t i = 0; i < curve.size(); ++i) {
    const json& step = curve[i];
    const auto removed = step.at("removed").get<int64_t>();
    if (curve.size() > 20 && removed > 3 && removed % 5 != 0 && i + 1 < curve.size()) continue;
    rows.push_back(
        {fmt::format("{}", removed),
         fmt::format("{}.{}", step.at("layer").get<int64_t>(), step.at("head").get<int64_t>()),
         fmt::format("{:.4f}", heads_number(step.at("loss"))), difference_cell(step)});
  }
  return rows;
}

std::string heads_legend(const json& record) {
  std::string text =
      "zero, mean: loss without the head minus that of the unchanged model, nats a target, with "
      "its standard error over sequences; the head's z, which the output projection reads, is 0 "
      "or its mean over the tokens measured, and other heads stay as they are. norm: mean over "
      "tokens of |z_h W_h|, the head's part of the branch. sink score: share of token 0, mean of "
      "the first 64 queries. row sum: mean sum of a query's weights.";
  if (has_gate(record)) text += " gate: its mean.";
  if (has_similarity(record))
    text +=
        " Similarity of maps: mean over sequences and queries t >= 1 of the cosine of two heads' "
        "rows; of outputs: mean over tokens of the cosine of z_h W_h; rows of zeros left out.";
  return text;
}

std::vector<std::string> heads_findings(const json& record) {
  const json& summary = record.at("summary");
  std::vector<std::string> findings;
  if (summary.contains("map_similarity"))
    findings.push_back(fmt::format(
        "Mean similarity of two heads of a layer: {} of maps, {} of outputs",
        heads_cell(summary.at("map_similarity")), heads_cell(summary.at("output_similarity"))));
  if (!record.at("curve").empty()) {
    const json& settings = record.at("settings");
    const auto candidates = settings.at("candidates").get<int64_t>();
    findings.push_back(fmt::format(
        "{}{} of {} heads can be removed one after the other ({} ablation{}) before the loss is "
        "{:.3g} % above {:.4f}",
        summary.at("removable_is_exact").get<bool>() ? "" : "At least ",
        summary.at("removable_heads").get<int64_t>(),
        record.at("model").at("layers").get<int64_t>() *
            record.at("model").at("heads").get<int64_t>(),
        settings.at("prune_by").get<std::string>(),
        candidates > 0
            ? fmt::format(", {} candidates a step by the first-order estimate", candidates)
            : "",
        100 * summary.at("removable_share").get<double>(), heads_number(record.at("loss"))));
  }
  findings.push_back(
      fmt::format("Contributions of heads and the bias sum to the branch's output within {} of its "
                  "largest number",
                  heads_cell(summary.at("sum_error"))));
  return findings;
}

std::string heads_table(const std::string& text) {
  const json record = json::parse(text);
  std::string out = fmt::format("Loss {:.4f}\n\n", heads_number(record.at("loss")));
  out += terminal_table(
      record.at("layers").size() <= kLayersByHead ? head_rows(record) : head_layer_rows(record),
      {.left = 1});
  if (!record.at("curve").empty()) out += "\n" + terminal_table(pruning_rows(record), {.left = 1});
  out += "\n";
  for (const std::string& finding : heads_findings(record)) out += finding + ".\n";
  return out + heads_legend(record) + "\n";
}

}  // namespace weir
