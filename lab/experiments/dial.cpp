#include "lab/experiments/dial.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

#include "runtime/random.h"
#include "support/error.h"
#include "support/text.h"
#include "support/usage_error.h"

namespace weir {

const char* dial_name(Dial dial) {
  switch (dial) {
    case Dial::mass:
      return "mass";
    case Dial::norm:
      return "norm";
    case Dial::value:
      return "value";
    case Dial::position:
      return "position";
    case Dial::mask:
      return "mask";
  }
  internal_error_at("unknown dial");
}

const char* form_name(DialForm form) {
  switch (form) {
    case DialForm::logit:
      return "logit";
    case DialForm::multiply:
      return "multiply";
    case DialForm::branch:
      return "branch";
    case DialForm::stream:
      return "stream";
  }
  internal_error_at("unknown form");
}

const char* upstream_name(Upstream upstream) {
  switch (upstream) {
    case Upstream::frozen:
      return "frozen";
    case Upstream::recomputed:
      return "recomputed";
  }
  internal_error_at("unknown upstream");
}

const char* branch_name(DialBranch branch) {
  switch (branch) {
    case DialBranch::attention:
      return "attn";
    case DialBranch::mlp:
      return "mlp";
  }
  internal_error_at("unknown branch");
}

std::vector<DialForm> forms_of(Dial dial) {
  switch (dial) {
    case Dial::mass:
      return {DialForm::logit, DialForm::multiply};
    case Dial::norm:
      return {DialForm::branch, DialForm::stream};
    case Dial::value:
    case Dial::position:
    case Dial::mask:
      return {};
  }
  internal_error_at("unknown dial");
}

bool has_upstream(Dial dial, Upstream upstream) {
  switch (dial) {
    case Dial::mass:
    case Dial::norm:
    case Dial::position:
      return true;
    case Dial::value:
    case Dial::mask:
      return upstream == Upstream::recomputed;
  }
  internal_error_at("unknown dial");
}

namespace {

constexpr int64_t kLastKeys = 4;

DialValue number_value(double number) { return {fmt::format("{:.6g}", number), number, {}}; }

DialValue key_set(std::string name, std::vector<int64_t> keys) {
  return {std::move(name), 0, std::move(keys)};
}

// "sink", "middle", "last-four" and "random", which is as many values as there are keys drawn.
std::vector<DialValue> named_keys(const std::string& word, int64_t sink, int64_t T, int64_t random,
                                  uint64_t seed) {
  if (word == "sink") return {key_set(word, {sink})};
  if (word == "middle") return {key_set(word, {T / 2})};
  if (word == "last-four") {
    std::vector<int64_t> last;
    for (int64_t key = std::max<int64_t>(0, T - kLastKeys); key < T; ++key) last.push_back(key);
    return {key_set(word, last)};
  }
  if (word != "random") return {};
  if (random > T - 1)
    throw UsageError(
        fmt::format("[dial] {} random keys are asked for, but a sequence has {} beside the sink.",
                    random, T - 1));
  // Without the sink, and each once.
  std::vector<DialValue> drawn;
  std::set<int64_t> taken = {sink};
  Random draws(seed, 0);
  while (std::ssize(drawn) < random)
    if (const auto key = static_cast<int64_t>(draws.below(static_cast<uint64_t>(T)));
        taken.insert(key).second)
      drawn.push_back(key_set(fmt::format("random-{}", drawn.size() + 1), {key}));
  return drawn;
}

std::vector<DialValue> powers_of_two(double first, double last, double step) {
  std::vector<DialValue> values;
  for (double power = first; power <= last; power += step)
    values.push_back(number_value(std::exp2(power)));
  return values;
}

template <typename Number>
std::optional<Number> number_of(const std::string& text) {
  Number number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// What is wrong with a number, or "".
std::string number_problem(double number, Dial dial, DialForm form) {
  constexpr double most_logit = 1e4, most_factor = 1e6;
  if (dial == Dial::mass && form == DialForm::logit)
    return std::abs(number) <= most_logit ? "" : "a logit from -10000 to 10000 is needed";
  if (dial == Dial::value)
    return std::abs(number) <= most_factor ? "" : "a factor from -1000000 to 1000000 is needed";
  return number > 0 && number <= most_factor ? "" : "a positive factor up to 1000000 is needed";
}

}  // namespace

std::vector<DialValue> default_values(Dial dial, DialForm form, int64_t sink_token, int64_t length,
                                      int64_t random, uint64_t seed) {
  std::vector<DialValue> values;
  switch (dial) {
    case Dial::mass:
      if (form == DialForm::multiply) return powers_of_two(-5, 5, 0.5);
      for (int logit = -10; logit <= 10; ++logit) values.push_back(number_value(logit));
      return values;
    case Dial::norm:
      return powers_of_two(-6, 4, 0.5);
    case Dial::value:
      for (double factor : {0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0})
        values.push_back(number_value(factor));
      return values;
    case Dial::position:
      values.push_back(number_value(static_cast<double>(sink_token)));
      for (int64_t key = 1; key < length; key *= 2)
        if (key != sink_token) values.push_back(number_value(static_cast<double>(key)));
      return values;
    case Dial::mask:
      for (const char* word : {"sink", "middle", "last-four", "random"})
        for (DialValue& value : named_keys(word, sink_token, length, random, seed))
          values.push_back(std::move(value));
      return values;
  }
  internal_error_at("unknown dial");
}

std::vector<DialValue> parse_values(const std::vector<std::string>& words, Dial dial, DialForm form,
                                    int64_t sink_token, int64_t length, int64_t random,
                                    uint64_t seed) {
  UsageProblems problems("dial");
  std::vector<DialValue> values;
  const auto in_sequence = [&](int64_t key) { return key >= 0 && key < length; };
  for (const std::string& word : words) {
    if (dial == Dial::mask) {
      std::vector<DialValue> named = named_keys(word, sink_token, length, random, seed);
      for (DialValue& value : named) values.push_back(std::move(value));
      if (!named.empty() || word == "random") continue;
    }
    if (dial == Dial::mask || dial == Dial::position) {
      const auto key = number_of<int64_t>(word);
      if (key && in_sequence(*key))
        values.push_back({word, static_cast<double>(*key), {*key}});
      else
        problems.add(fmt::format(
            "'{}' is no value of the {} dial, which needs {}a key from 0 to {}.", short_text(word),
            dial_name(dial), dial == Dial::mask ? "sink, middle, last-four, random or " : "",
            length - 1));
      continue;
    }
    const auto number = number_of<double>(word);
    const std::string problem = number ? number_problem(*number, dial, form) : "a number is needed";
    if (problem.empty())
      values.push_back(number_value(*number));
    else
      problems.add(fmt::format("'{}' is no value of the {} dial: {}.", short_text(word),
                               dial_name(dial), problem));
  }
  if (values.empty() && problems.empty())
    problems.add(fmt::format("the {} dial is given no value. Name some, or leave --values out.",
                             dial_name(dial)));
  problems.raise();
  return values;
}

void check_dial(const DialTask& task, const MeasuredModel& sizes, int64_t length) {
  UsageProblems problems("dial");
  const auto need_below = [&](const char* what, int64_t number, int64_t count, const char* of) {
    if (number < 0 || number >= count)
      problems.add(fmt::format("{} {} is asked for, but {} {} 0 to {}.", what, number, of,
                               count == 1 ? "has only number" : "has", count - 1));
  };
  for (int64_t layer : task.layers) need_below("layer", layer, sizes.layers, "the model");
  for (int64_t head : task.heads) need_below("head", head, sizes.heads, "a layer");
  need_below("key", task.sink_token, length, "a sequence");
  const auto need_once = [&](const char* what, std::vector<int64_t> numbers) {
    std::sort(numbers.begin(), numbers.end());
    const auto twice = std::adjacent_find(numbers.begin(), numbers.end());
    if (twice != numbers.end())
      problems.add(fmt::format("{} {} is asked for twice. Name it once.", what, *twice));
  };
  need_once("layer", task.layers);
  need_once("head", task.heads);
  if (task.values.empty()) problems.add("the dial is given no value. Name at least one.");
  for (const DialValue& value : task.values) {
    for (int64_t key : value.keys) need_below("key", key, length, "a sequence");
    if (task.dial == Dial::position)
      need_below("key", static_cast<int64_t>(value.number), length, "a sequence");
  }
  const std::vector<DialForm> forms = forms_of(task.dial);
  if (!forms.empty() && std::find(forms.begin(), forms.end(), task.form) == forms.end())
    problems.add(fmt::format("the {} dial has no form {}; it has {} and {}.", dial_name(task.dial),
                             form_name(task.form), form_name(forms[0]), form_name(forms[1])));
  if (std::none_of(task.upstream.begin(), task.upstream.end(),
                   [&](Upstream one) { return has_upstream(task.dial, one); }))
    problems.add(fmt::format(
        "the {} dial has no meaning with g frozen: {}. Let g be recomputed.", dial_name(task.dial),
        task.dial == Dial::mask ? "it is about the loss" : "nothing but the value changes"));
  problems.raise();
}

namespace {

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

}  // namespace

LineFit mass_fit(const DialSweep& sweep, std::optional<size_t> head, double confidence) {
  std::vector<double> mass, energy;
  for (const AttentionPoint& point : sweep.attention) {
    mass.push_back(head ? point.mass[*head] : mean(point.mass));
    energy.push_back(head ? point.energy[*head] : mean(point.energy));
  }
  return fit_power(mass, energy, confidence);
}

LineFit norm_fit(const DialSweep& sweep, double eps, double confidence) {
  std::vector<double> norm, compress;
  for (const NormPoint& point : sweep.norm) {
    if (!(point.mean_square > kEpsShare * eps)) continue;
    norm.push_back(point.norm);
    compress.push_back(point.compress);
  }
  return fit_power(norm, compress, confidence);
}

}  // namespace weir
