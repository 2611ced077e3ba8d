#include "lab/report/compare_summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "lab/measure/statistics.h"
#include "lab/report/compare.h"
#include "lab/report/page_text.h"
#include "lab/report/report_summary.h"
#include "lab/report/terminal_table.h"
#include "support/text.h"

namespace weir {

using nlohmann::json;
using nlohmann::ordered_json;

namespace {

// "" for null.
std::string text_of(const json& value) {
  return value.is_string() ? value.get<std::string>() : std::string();
}

// With groups of three digits.
std::string grouped(double value) {
  std::string text = fmt::format("{:.0f}", value);
  for (size_t at = text.size(); at > 3 + (text[0] == '-' ? 1 : 0);) text.insert(at -= 3, ",");
  return text;
}

std::string number_of(const std::string& quantity, double value) {
  if (std::isnan(value)) return "-";
  if (quantity == "tokens") return grouped(value);
  return compared_number(quantity, value);
}

std::string with_sign(const std::string& quantity, double value) {
  const std::string text = number_of(quantity, value);
  return value > 0 ? "+" + text : text;
}

std::string range_of(const std::string& quantity, double low, double high, bool sign) {
  if (std::isnan(low) || std::isnan(high)) return "-";
  const auto text = [&](double value) {
    return sign ? with_sign(quantity, value) : number_of(quantity, value);
  };
  return text(low) + " to " + text(high);
}

struct Shown {
  std::string key, title;
};

// At equal loss the loss itself says nothing, and the tokens that it took stand in its place. One
// head alone is the largest one, too.
std::vector<Shown> shown_quantities(const json& record, const std::string& at) {
  std::vector<Shown> shown;
  if (at == "equal_loss") shown.push_back({"tokens", "tokens"});
  for (const json& one : record.at("quantities"))
    if ((at == "equal_tokens" || one.at("key") != "loss") && !is_said_already(record, one))
      shown.push_back({text_of(one.at("key")), text_of(one.at("title"))});
  return shown;
}

std::string percent(double part) { return fmt::format("{:.4g} %", 100 * part); }

std::string times(int64_t count, size_t of) { return fmt::format("{} of {}", count, of); }

// "later in 2 of 3 (median +64 steps), the same step in 1".
std::string change_text(const json& change) {
  const std::pair<const char*, const char*> words[] = {
      {"later", "later"},          {"removed", "never (removed)"}, {"earlier", "earlier"},
      {"added", "added"},          {"same", "at the same step"},   {"neither", "in neither"},
      {"uncertain", "not certain"}};
  int64_t all = 0;
  for (const auto& [key, text] : words) all += change.at(key).get<int64_t>();
  std::vector<std::string> parts;
  for (const auto& [key, text] : words)
    if (const auto count = change.at(key).get<int64_t>(); count > 0)
      parts.push_back(fmt::format("{} {}/{}", text, count, all));
  std::string result = join(parts, ", ");
  const json& median = change.at("median_step_difference");
  if (!median.is_null() && median.get<double>() != 0)
    result += fmt::format("; median {:+g} steps", median.get<double>());
  return result;
}

constexpr const char* kEventNames[][2] = {{"sink", "attention sink"},
                                          {"value_drain", "value drain"},
                                          {"gradient_sink", "gradient sink"},
                                          {"norm_growth", "norm growth"}};

// The first `words` columns and the last one are texts. A name that the row above has, too, is not
// said again.
std::string aligned(CompareRows rows, size_t words) {
  for (size_t r = rows.size(); r-- > 2;)
    if (rows[r][0] == rows[r - 1][0]) rows[r][0].clear();
  return terminal_table(rows, {.left = words, .last_left = true});
}

std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string quoted = "\"";
  for (char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

// All digits; nothing for what is not a number.
std::string csv_number(double value) { return std::isfinite(value) ? shortest(value) : ""; }

}  // namespace

bool is_said_already(const json& record, const json& quantity) {
  const json& model = record.at("model");
  return quantity.at("key") == "sink_score_max" && model.at("layers") == 1 &&
         model.at("heads") == 1;
}

double record_value(const json& value) {
  return value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN();
}

std::string compared_number(const std::string& quantity, double value) {
  if (std::isnan(value)) return "-";
  return quantity == "loss" ? fmt::format("{:.4f}", value) : short_number(value);
}

std::string grid_text(const json& grid) {
  std::vector<std::string> parts;
  for (const auto& [key, value] : grid.items())
    parts.push_back(key + "=" + plain(ordered_json(value)));
  return join(parts, " ");
}

std::string place_of_comparison(const json& point, const std::string& at) {
  if (at == "equal_loss")
    return fmt::format("at a loss of {} nats",
                       compared_number("loss", record_value(point.at("loss"))));
  const json& step = point.at("step");
  return fmt::format("at {} tokens{}", grouped(record_value(point.at("tokens"))),
                     step.is_null() ? "" : fmt::format(" (step {})", step.get<int64_t>()));
}

CompareRows spread_rows(const json& record, const json& point, const std::string& at) {
  const double confidence = record_value(record.at("settings").at("bootstrap").at("confidence"));
  CompareRows rows = {{"quantity", "arm", "seeds", "median", "quartiles", "difference", "pairs",
                       percent(confidence) + " interval"}};
  for (const Shown& shown : shown_quantities(record, at))
    for (const json& arm : point.at("arms")) {
      const json& spread = arm.at(at).at(shown.key);
      std::vector<std::string>& row = rows.emplace_back();
      row = {shown.title, text_of(arm.at("arm")), fmt::format("{}", arm.at("seeds").size()),
             number_of(shown.key, record_value(spread.at("median"))),
             range_of(shown.key, record_value(spread.at("low_quartile")),
                      record_value(spread.at("high_quartile")), false)};
      const json& difference = arm.at("difference");
      if (difference.is_null() || !difference.contains(at)) {
        row.insert(row.end(), {"", "", ""});
        continue;
      }
      const json& own = difference.at(at).at(shown.key);
      const std::string interval =
          range_of(shown.key, record_value(own.at("low")), record_value(own.at("high")), true);
      row.push_back(with_sign(shown.key, record_value(own.at("median"))));
      row.push_back(fmt::format("{}", difference.at("seeds").size()));
      row.push_back(interval == "-" || difference.at("enough_seeds").get<bool>()
                        ? interval
                        : interval + " (too few)");
    }
  return rows;
}

CompareRows onset_rows(const json& record, const json& point) {
  CompareRows rows = {{"onset", "arm", "reached", "median step", "never", "not certain",
                       "first alone", "first with others",
                       "against " + record.at("arms").at(0).get<std::string>()}};
  for (const auto& [key, name] : kEventNames)
    for (const json& arm : point.at("arms")) {
      const json& onset = arm.at("onsets").at(key);
      const json& first = arm.at("first").at(key);
      const size_t seeds = arm.at("seeds").size();
      const json& difference = arm.at("difference");
      const bool missing = onset.at("missing").get<size_t>() == seeds;
      const auto count = [&](const json& value) {
        return missing ? std::string("-") : times(value.get<int64_t>(), seeds);
      };
      rows.push_back({name, text_of(arm.at("arm")), count(onset.at("reached")),
                      onset.at("median_step").is_null()
                          ? "-"
                          : fmt::format("{:g}", onset.at("median_step").get<double>()),
                      count(onset.at("never")), count(onset.at("uncertain")),
                      count(first.at("alone")), count(first.at("together")),
                      difference.is_null() || !difference.contains("onsets") || missing
                          ? ""
                          : change_text(difference.at("onsets").at(key))});
    }
  return rows;
}

CompareRows growth_rows(const json& point) {
  CompareRows rows = {{"arm", "layer", "seeds fitted", "A", "lambda", "gamma", "t0", "K", "rmse",
                       "R^2", "step of the extremum", "at a bound"}};
  for (const json& arm : point.at("arms")) {
    const json& replicates = arm.at("replicates");
    for (size_t l = 0; l < replicates.at(0).at("growth").size(); ++l) {
      std::vector<std::string>& row = rows.emplace_back();
      size_t fitted = 0;
      for (const json& one : replicates)
        fitted += one.at("growth").at(l).at("rmse").is_number() ? 1 : 0;
      row = {text_of(arm.at("arm")), fmt::format("{}", l),
             times(static_cast<int64_t>(fitted), replicates.size())};
      for (const char* key :
           {"A", "lambda", "gamma", "t0", "K", "rmse", "r_squared", "peak_step"}) {
        std::vector<double> values;
        for (const json& one : replicates)
          if (const double value = record_value(one.at("growth").at(l).at(key)); !std::isnan(value))
            values.push_back(value);
        row.push_back(values.empty() ? "-" : short_number(median(values)));
      }
      int64_t at_bound = 0;
      for (const json& one : replicates)
        at_bound += one.at("growth").at(l).at("at_bound").get<bool>() ? 1 : 0;
      row.push_back(times(at_bound, replicates.size()));
    }
  }
  return rows;
}

std::vector<std::string> interval_sentences(const json& record) {
  const json& bootstrap = record.at("settings").at("bootstrap");
  const double confidence = record_value(bootstrap.at("confidence"));
  std::vector<std::string> sentences;
  bool compared = false;
  size_t fewest = std::numeric_limits<size_t>::max();
  for (const json& point : record.at("points"))
    for (const json& arm : point.at("arms")) {
      const json& difference = arm.at("difference");
      if (difference.is_null()) continue;
      compared = true;
      fewest = std::min(fewest, difference.at("seeds").size());
    }
  if (!compared) return {"There is one arm alone, so there are no differences."};
  sentences.push_back(fmt::format(
      "A difference is that of an arm to {}, seed by seed; its median is shown. The {} interval is "
      "made of {} resamples of the pairs of seeds, with replacement (percentiles; generator {}, "
      "seed "
      "{}).",
      record.at("points").size() > 1 && record.at("arms").size() == 1
          ? "the first grid point"
          : record.at("arms").at(0).get<std::string>(),
      percent(confidence), bootstrap.at("resamples").dump(),
      bootstrap.at("generator").get<std::string>(), bootstrap.at("seed").dump()));
  const auto needed = bootstrap.at("seeds_needed").get<size_t>();
  if (fewest < 2)
    sentences.push_back(fmt::format(
        "Where an arm shares fewer than 2 seeds with the first there is no interval; {} "
        "are needed for one of {}.",
        needed, percent(confidence)));
  if (fewest >= 2 && fewest < needed)
    sentences.push_back(fmt::format(
        "There are too few seeds for an interval to mean what it says: with {} pairs even the "
        "whole "
        "range of the differences covers their true median with a probability of at most {}. {} "
        "seeds are needed for {}.",
        fewest, percent(largest_coverage(fewest)), needed, percent(confidence)));
  return sentences;
}

std::string onset_sentence(const json& settings) {
  const json& onset = settings.at("onset");
  std::vector<std::string> parts;
  for (const auto& [key, name] : kEventNames) {
    const json& one = onset.at(key);
    parts.push_back(fmt::format("{}: {} {} {}", name, one.at("quantity").get<std::string>(),
                                one.at("beyond") == "below" ? "<" : ">",
                                shortest(record_value(one.at("threshold")))));
  }
  const auto count = onset.at("measurements").get<int64_t>();
  return fmt::format(
      "An onset is the first measured step from which a quantity stays beyond its threshold for {} "
      "measurement{} ({}), in the layer or head where that comes first. It lies between that step "
      "and the measured one before it. Not certain: beyond it at the end, for fewer measurements.",
      count, count == 1 ? "" : "s", join(parts, ", "));
}

std::vector<std::string> change_sentences(const json& point) {
  const std::pair<const char*, const char*> verbs[] = {{"removed", "removes {}"},
                                                       {"later", "delays {}"},
                                                       {"earlier", "brings {} forward"},
                                                       {"added", "adds {}"},
                                                       {"same", "leaves {} at its step"}};
  std::vector<std::string> sentences;
  for (const json& arm : point.at("arms")) {
    const json& difference = arm.at("difference");
    if (difference.is_null() || !difference.contains("onsets")) continue;
    const size_t pairs = difference.at("seeds").size();
    std::vector<std::string> clauses;
    for (const auto& [verb, words] : verbs)
      for (const auto& [key, name] : kEventNames) {
        const json& change = difference.at("onsets").at(key);
        const auto count = change.at(verb).get<int64_t>();
        if (count == 0) continue;
        std::string clause = fmt::format(fmt::runtime(words), name) + " in " + times(count, pairs);
        std::vector<double> steps;  // of those that are moved that way
        for (const json& step : change.at("step_differences")) {
          const double moved = step.get<double>();
          if ((std::string(verb) == "later" && moved > 0) ||
              (std::string(verb) == "earlier" && moved < 0))
            steps.push_back(moved);
        }
        if (!steps.empty()) clause += fmt::format(" (median {:+g} steps)", median(steps));
        clauses.push_back(std::move(clause));
      }
    sentences.push_back(
        fmt::format("{}: {}.", arm.at("arm").get<std::string>(),
                    clauses.empty() ? "changes no onset that is certain" : join(clauses, "; ")));
  }
  return sentences;
}

std::vector<std::string> left_out_sentences(const json& record) {
  std::vector<std::string> sentences;
  for (const json& one : record.at("left_out")) {
    const std::string arm = text_of(one.at("arm")), seed = text_of(one.at("seed"));
    sentences.push_back(fmt::format(
        "Left out: {}{}{}. {}", one.at("folder").get<std::string>(), arm.empty() ? "" : ", " + arm,
        seed.empty() ? "" : ", seed " + seed, one.at("why").get<std::string>()));
  }
  for (const json& note : record.at("notes")) sentences.push_back(text_of(note));
  for (const json& point : record.at("points"))
    for (const json& arm : point.at("arms")) {
      const json& difference = arm.at("difference");
      if (difference.is_null() || difference.at("unpaired_seeds").empty()) continue;
      sentences.push_back(
          fmt::format("{}{}: seeds {} have no pair in {}, and are in no difference.",
                      arm.at("arm").get<std::string>(),
                      point.at("grid").empty() ? "" : " at " + grid_text(point.at("grid")),
                      difference.at("unpaired_seeds").dump(),
                      difference.at("reference").at("arm").get<std::string>()));
    }
  return sentences;
}

std::string compare_table(const std::string& text) {
  const json record = json::parse(text);
  std::string result;
  for (const json& point : record.at("points")) {
    if (!point.at("grid").empty())
      result += fmt::format("== {} ==\n\n", grid_text(point.at("grid")));
    for (const char* at : {"equal_tokens", "equal_loss"}) {
      std::string heading = place_of_comparison(point, at);
      heading[0] = 'A';
      result += heading + "\n" + aligned(spread_rows(record, point, at), 2) + "\n";
    }
    result += aligned(onset_rows(record, point), 2) + "\n";
    for (const std::string& sentence : change_sentences(point)) result += sentence + "\n";
    result += "\n";
  }
  for (const std::string& sentence : interval_sentences(record)) result += sentence + "\n";
  result +=
      "At equal loss: the lowest that every replicate reaches, or the one given; a value is linear "
      "in "
      "the loss between the measured step that first reaches it and the one before.\n";
  result += onset_sentence(record.at("settings")) + "\n";
  for (const std::string& sentence : left_out_sentences(record)) result += sentence + "\n";
  return result;
}

std::string compare_csv(const std::string& text) {
  const json record = json::parse(text);
  std::vector<std::string> keys;
  for (const json& point : record.at("points"))
    for (const auto& [key, value] : point.at("grid").items())
      if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(key);
  std::string csv = "arm";
  for (const std::string& key : keys) csv += "," + csv_field(key);
  csv += ",seed,run,at,step,tokens,quantity,value\n";
  for (const json& point : record.at("points"))
    for (const json& arm : point.at("arms"))
      for (size_t i = 0; i < arm.at("replicates").size(); ++i) {
        const json& one = arm.at("replicates")[i];
        std::string head = csv_field(text_of(arm.at("arm")));
        for (const std::string& key : keys)
          head += "," + csv_field(point.at("grid").contains(key)
                                      ? plain(ordered_json(point.at("grid").at(key)))
                                      : "");
        head += fmt::format(",{},{}", one.at("seed").dump(), csv_field(text_of(one.at("folder"))));
        for (size_t s = 0; s < one.at("steps").size(); ++s)
          for (const json& quantity : record.at("quantities")) {
            const std::string key = text_of(quantity.at("key"));
            csv += fmt::format("{},step,{},{},{},{}\n", head, one.at("steps")[s].dump(),
                               csv_number(record_value(one.at("tokens")[s])), key,
                               csv_number(record_value(one.at("values").at(key)[s])));
          }
        // A point between measured steps has tokens, and no step.
        const json& equal = arm.at("equal_loss");
        const std::string tokens = csv_number(record_value(equal.at("tokens").at("values")[i]));
        for (const json& quantity : record.at("quantities")) {
          const std::string key = text_of(quantity.at("key"));
          csv += fmt::format("{},equal_loss,,{},{},{}\n", head, tokens, key,
                             csv_number(record_value(equal.at(key).at("values")[i])));
        }
      }
  return csv;
}

}  // namespace weir
