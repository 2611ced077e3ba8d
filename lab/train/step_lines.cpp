#include "lab/train/step_lines.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "io/file.h"
#include "io/json_text.h"
#include "lab/report/report_data.h"
#include "support/error.h"

namespace weir {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

namespace {

Json number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  return value;
}

// Takes "step" and "loss" of a line and nothing else of it: a record may be large.
class StepOfLine : public nlohmann::json_sax<Json> {
 public:
  // None without a loss: every file of lines has one.
  std::optional<int64_t> step() const { return has_loss_ ? step_ : std::nullopt; }

  bool start_object(size_t) override {
    ++depth_;
    return true;
  }
  bool end_object() override {
    --depth_;
    return true;
  }
  bool start_array(size_t) override {
    ++depth_;
    return depth_ > 1;  // a line is an object
  }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool key(std::string& name) override {
    at_step_ = depth_ == 1 && name == "step";
    at_loss_ = depth_ == 1 && name == "loss";
    return true;
  }
  bool number_integer(int64_t value) override { return take(value); }
  bool number_unsigned(uint64_t value) override { return take(static_cast<int64_t>(value)); }
  bool null() override { return other(); }
  bool boolean(bool) override { return other(); }
  bool number_float(double, const std::string&) override { return loss(); }
  bool string(std::string& text) override {
    return text == "NaN" || text == "Infinity" || text == "-Infinity" ? loss() : other();
  }
  bool binary(Json::binary_t&) override { return other(); }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception&) override {
    return false;
  }

 private:
  bool take(int64_t value) {
    if (at_step_ && depth_ == 1) step_ = value;
    return loss();
  }
  bool loss() {
    has_loss_ |= at_loss_ && depth_ == 1;
    return other();
  }
  bool other() {
    at_step_ = at_loss_ = false;
    return true;
  }

  int depth_ = 0;
  bool at_step_ = false, at_loss_ = false, has_loss_ = false;
  std::optional<int64_t> step_;
};

}  // namespace

bool is_sound_record(std::string_view line) {
  try {
    arm_of_record(nlohmann::json::parse(line), "record");
    return true;
  } catch (const UserError&) {
    return false;
  } catch (const nlohmann::json::exception&) {
    return false;
  }
}

StepLines read_step_lines(const fs::path& file, const std::vector<int64_t>& wanted, int64_t below,
                          const LineCheck& is_sound) {
  StepLines lines;
  std::map<int64_t, std::string_view> by_step;
  std::optional<MappedFile> mapped;
  if (fs::exists(file)) mapped.emplace(file.string());
  const std::string_view text = mapped ? mapped->text() : "";
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size() - 1);
    const std::string_view line = text.substr(begin, end + 1 - begin);
    begin = end + 1;
    StepOfLine reader;
    const bool sound =
        line.ends_with('\n') && Json::sax_parse(line, &reader) && repeated_keys(line).empty();
    const std::optional<int64_t> step = sound ? reader.step() : std::nullopt;
    if (!step) {
      lines.as_written = false;
      continue;
    }
    if (*step >= below) continue;
    if (!std::binary_search(wanted.begin(), wanted.end(), *step) || (is_sound && !is_sound(line))) {
      lines.as_written = false;
      continue;
    }
    lines.as_written &= by_step.empty() || by_step.rbegin()->first < *step;
    by_step.emplace(*step, line);
  }
  for (const auto& [step, line] : by_step) lines.text += line;
  if (!by_step.empty()) lines.last = by_step.rbegin()->first;
  for (int64_t step : wanted)
    if (!lines.missing && !by_step.contains(step)) lines.missing = step;
  return lines;
}

std::string loss_line(int64_t step, double loss, double rate, double grad_norm,
                      double tokens_per_second) {
  return Json{{"step", step},
              {"loss", number(loss)},
              {"lr", number(rate)},
              {"grad_norm", number(grad_norm)},
              {"tokens_per_second", number(std::round(tokens_per_second))}}
      .dump();
}

std::string validation_line(int64_t step, double loss, int64_t tokens,
                            std::optional<double> recalled) {
  Json line = {{"step", step}, {"loss", number(loss)}, {"tokens", tokens}};
  if (recalled) line["recalled"] = number(*recalled);
  return line.dump();
}

}  // namespace weir
