#include "fuzz/command_lines.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <random>

#include "lab/train/config_keys.h"
#include "support/env.h"
#include "support/text.h"
#include "tools/command.h"

namespace weir::test {
namespace {

// Values that belong to no rule.
const std::vector<std::string>& hostile_values() {
  static const std::vector<std::string> values = {"",
                                                  " ",
                                                  "-1",
                                                  "-0",
                                                  "0",
                                                  "1e999",
                                                  "nan",
                                                  "-inf",
                                                  "0x10",
                                                  "1.5",
                                                  "1,",
                                                  ",",
                                                  ";",
                                                  "=",
                                                  "==",
                                                  "a=b",
                                                  "--",
                                                  "-",
                                                  "true",
                                                  "null",
                                                  "{}",
                                                  "[1]",
                                                  "\"",
                                                  "'",
                                                  "\\",
                                                  "*",
                                                  "?",
                                                  "%s%n",
                                                  "..",
                                                  "/",
                                                  "3 ",
                                                  "\n",
                                                  "\t",
                                                  "a\x01",
                                                  "\xff",
                                                  "\xc3",
                                                  "\xed\xa0\x80",
                                                  "\u00e9",
                                                  "\u0660",
                                                  "9223372036854775808",
                                                  "-9223372036854775809",
                                                  "18446744073709551616",
                                                  "4294967296",
                                                  "0.0000000000000000000000000000000000001",
                                                  std::string(5000, '9'),
                                                  std::string(300, 'a'),
                                                  "a:b:c",
                                                  "none",
                                                  "auto",
                                                  "$(x)",
                                                  "1e-400",
                                                  "+1",
                                                  "1_000",
                                                  "1GiB",
                                                  "-1GiB",
                                                  "999999999999TiB"};
  return values;
}

// Texts that an option or key of this name understands, or nearly does.
std::vector<std::string> pool(const std::string& name, const std::string& fixture) {
  const auto in = [&](const char* file) { return fixture + "/" + file; };
  static const std::vector<std::string> probes = {
      "blocks.0.attn.hook_v",
      "blocks.*.attn.hook_v.grad : batch_sum, norm(feature)",
      "blocks.0.attn.hook_pattern : column_mass",
      "blocks.0.atn.hook_v",
      "nothing",
      "* : raw",
      "blocks.0.hook_resid_post : norm(feature), max(batch)",
      "blocks.0.attn.hook_v : select(query=0..9)",
      "blocks.0.attn.hook_v : nosuch(",
      ":",
      ".grad",
      "*.grad : batch_sum"};
  const std::vector<std::string> texts = {
      in("a.txt"), in("a.jsonl"),       in("empty.txt"), in("absent.txt"), in("binary"),    fixture,
      in("*.txt"), in("a.txt,a.jsonl"), in("a,b.txt"),   in("bad.jsonl"),  "/proc/self/mem"};
  const std::vector<std::string> models = {in("model"),
                                           in("llama"),
                                           in("gpt2"),
                                           in("qwen3"),
                                           in("qwen3.gguf"),
                                           in("a.txt"),
                                           in("absent"),
                                           fixture,
                                           in("broken"),
                                           in("run"),
                                           "demo",
                                           "llama",
                                           in("run/run/checkpoints"),
                                           in("run/run/checkpoints/*"),
                                           in("none*")};
  if (name == "--probe" || name == "measure.probes") return probes;
  if (name == "--gradients") return {"*", "lm_head.weight", "x", "blocks.*"};
  if (name == "--text" || name == "data.files") return texts;
  if (name == "--tokens" || name == "--decode")
    return {in("ids.npy"),        in("flat.npy"),   in("a.txt"),         in("absent.npy"),
            in("binary"),         fixture,          in("binary:uint16"), in("ids.npy:uint16"),
            in("binary:float32"), in("a.txt:uint8")};
  if (name == "--tokenizer" || name == "data.tokenizer")
    return {"bytes",      in("gpt2.json"), in("model"), in("qwen3.gguf"),
            in("absent"), in("a.txt"),     fixture};
  if (name == "--model" || name == "from") return models;
  if (name == "file")
    return {in("g.weir"), in("planned.weir"), in("big.weir"), in("a.txt"), in("bad.weir"), fixture};
  if (name == "input")
    return {in("run"),     in("run/run"), in("run/run/metrics.jsonl"), in("model"), in("absent"),
            in("a.jsonl"), in("binary")};
  if (name == "--metric") return {"*", "sink_*", "loss", "train.loss", "nothing", "["};
  if (name == "run") return {in("run"), in("run/run"), in("model"), in("absent"), in("a.txt")};
  if (name == "plan") {
    const std::string small =
        R"({"base": {"steps": 2, "batch": 2, "length": 12, "model": "demo"}, )";
    return {small + R"("arms": {"a": {}, "b": {"v_scale.variant": "full"}}})",
            small + R"("seeds": [1, 2], "grid": {"optimizer.rate": [0.1]}})",
            small + R"("seeds": [1, 1], "grid": {"lr": 3}, "gird": []})",
            R"({"base": {"steps": "x", "out": "o"}, "arms": {"..": 1}})",
            "{",
            "[1]",
            in("a.txt"),
            in("binary"),
            in("absent"),
            fixture};
  }
  if (name == "--map")
    return {"0.0", "0.1", "1.0", "9.9", "0", "0.-1", "a.b", "0.0.0", "99999999999.0"};
  if (name == "--sink-token") return {"0", "1", "auto", "7", "99999", "first", "-1"};
  if (name == "--separator" || name == "--begin-token")
    return {"none", "auto", "0", "255", "256", "<|endoftext|>", "|"};
  if (name == "--memory" || name == "memory")
    return {"1GiB", "64MiB", "1KiB", "1", "8 g", "", "lots", "-1GiB"};
  if (name == "glob") return {"*", "blocks.0.*", "*.hook_v", "none", "[", "{a,b"};
  if (name == "data.bigrams")
    return {"", in("a.txt"), in("empty.txt"), in("absent.txt"), in("binary")};
  if (name == "model.name") return {"x", "llama-0.1b", "a/b"};
  if (name == "data.validation") return {"", in("a.txt"), "0.1", in("absent.txt")};
  return {"x", "none", "auto", in("a.txt")};
}

// Keys and options that make a valid command longer the larger they are, with a cheap value.
int64_t cheap_limit(const std::string& name) {
  static const std::vector<std::pair<std::string_view, int64_t>> limits = {
      {"steps", 3},
      {"batch", 4},
      {"length", 24},
      {"model.layers", 2},
      {"model.d_model", 32},
      {"model.heads", 2},
      {"model.kv_heads", 2},
      {"model.d_head", 16},
      {"model.d_ff", 48},
      {"model.vocabulary", 300},
      {"data.symbols", 32},
      {"data.triggers", 3},
      {"threads", 3},
      {"micro_batches", 2},
      {"--steps", 2},
      {"--index", 1},
      {"--stale", 5},
      {"--batch", 3},
      {"--length", 24},
      {"--layers", 2},
      {"--threads", 3},
      {"--context", 24},
      {"--stride", 24},
      {"--rounds", 1},
      {"optimizer.warmup", 3},
      {"measure.every", 3},
      {"measure.sink_token", 1},
      {"measure.map_layer", 0},
      {"measure.map_head", 0},
      {"measure.steps", 2},
      {"v_scale.layers", 1},
      {"--v-scale-layers", 1},
      {"WEIR_THREADS", 3}};
  for (const auto& [key, limit] : limits)
    if (key == name) return limit;
  return 0;
}

class Maker {
 public:
  Maker(uint64_t seed, uint64_t number, std::string fixture)
      : random_(seed * 1000003 + number), fixture_(std::move(fixture)) {}

  CommandLine make() {
    CommandLine line;
    const Commands commands = all_commands();
    if (chance(0.02)) return odd_line();
    const OptionTable& table = *commands[below(commands.size())];
    // Most lines have at most one thing wrong, so that what lies behind the first check is reached.
    hostility_ = chance(0.45) ? 0 : chance(0.5) ? 0.04 : 0.3;
    line.words.push_back(table.command());
    std::vector<std::vector<std::string>> parts;
    for (const Option& option : table.rows())
      if (const auto part = part_of(option, table, line); !part.empty()) parts.push_back(part);
    if (chance(hostility_))
      parts.push_back({"--" + pick<std::string>({"batch-size", "lr", "x", "jsn", "help"})});
    if (chance(hostility_)) parts.push_back({hostile()});
    std::shuffle(parts.begin(), parts.end(), random_);
    for (const auto& part : parts) line.words.insert(line.words.end(), part.begin(), part.end());
    keep_cheap(table.command(), line);
    for (const EnvironmentVariable& variable : environment_variables())
      if (chance(0.02) && std::string_view(variable.name) != "WEIR_CACHE" &&
          std::string_view(variable.name) != "WEIR_DEBUG")
        line.variables[variable.name] =
            value_of(variable.name, variable.is_number ? ValueSlot(&number_) : ValueSlot(&text_),
                     variable.rule);
    // No argument and no variable can hold the end of a C string.
    for (std::string& word : line.words) std::erase(word, '\0');
    return line;
  }

 private:
  double unit() { return std::uniform_real_distribution<>(0, 1)(random_); }
  bool chance(double p) { return unit() < p; }
  size_t below(size_t n) { return static_cast<size_t>(random_() % n); }
  template <typename T>
  const T pick(const std::vector<T>& values) {
    return values[below(values.size())];
  }
  std::string hostile() { return pick(hostile_values()); }

  CommandLine odd_line() {
    static const std::vector<std::vector<std::string>> lines = {{},
                                                                {"--help"},
                                                                {"--version"},
                                                                {"-h"},
                                                                {"help"},
                                                                {"trian"},
                                                                {""},
                                                                {"--bogus"},
                                                                {"-"},
                                                                {"--"},
                                                                {"measure"},
                                                                {"eval"},
                                                                {"run"},
                                                                {"convert"},
                                                                {"convert", "a"},
                                                                {"report"},
                                                                {"tokens"},
                                                                {"\xff"},
                                                                {"train", "--help"},
                                                                {"dump", "-h", "--bogus"},
                                                                {"measure", "--", "--help"}};
    CommandLine line;
    line.words = pick(lines);
    return line;
  }

  // The ends of a range and just outside, or a value within that costs little.
  std::string number_of(const std::string& name, const ValueRule& rule, bool whole) {
    const int64_t cheap = cheap_limit(name);
    const double low = std::isfinite(rule.low) ? rule.low : -1000;
    if (chance(hostility_)) {
      const double high = std::isfinite(rule.high) ? rule.high : 1e18;
      const double step = whole ? 1 : std::max(1e-6, std::abs(high) * 1e-6);
      return whole ? fmt::format("{:.0f}", pick<double>({low - 1, high + 1, -high, high * 1000}))
                   : shortest(pick<double>({low - step, high + step, -high, high * 1000}));
    }
    double high = std::isfinite(rule.high) ? rule.high : 1e6;
    if (cheap > 0 || name.ends_with("map_layer") || name.ends_with("map_head"))
      high = std::min(high, static_cast<double>(cheap));
    if (chance(0.2)) return shortest(low);
    if (chance(0.2)) return whole ? fmt::format("{:.0f}", high) : shortest(high);
    const double value = low + unit() * (high - low);
    return whole ? fmt::format("{:.0f}", std::floor(value)) : shortest(value);
  }

  std::string path_of(const ValueRule& rule, const std::string& name) {
    if (rule.path == PathKind::input) return pick(pool(name, fixture_));
    if (rule.path == PathKind::none || !chance(hostility_))
      return fmt::format("o{}{}", below(3), rule.path == PathKind::output_folder ? "" : ".json");
    return pick<std::string>({"", ".", "..", "/nodir/x", "/dev/null", "/proc/x", "made/deep/x",
                              "o0.json", fixture_ + "/a.txt", "x/", std::string(300, 'n'), "a\nb",
                              "\xff.json", "x.html", "config.json"});
  }

  std::string value_of(const std::string& name, const ValueSlot& slot, const ValueRule& rule) {
    if (chance(hostility_ / 2)) return hostile();
    if (rule.path != PathKind::none) return path_of(rule, name);
    if (!rule.choices.empty()) {
      std::string choice = pick(rule.choices);
      if (chance(hostility_)) choice += "x";
      if (chance(hostility_)) choice = choice.substr(1);
      return choice;
    }
    if (std::holds_alternative<double*>(slot)) return number_of(name, rule, false);
    if (std::holds_alternative<bool*>(slot)) return chance(0.5) ? "true" : "false";
    if (std::holds_alternative<std::string*>(slot) ||
        std::holds_alternative<std::vector<std::string>*>(slot))
      return pick(pool(name, fixture_));
    return number_of(name, rule, true);
  }

  std::string key_word(const ConfigKey& key) {
    RunConfig config;
    const KeySlot slot = key.slot(config);
    const auto* plain = std::get_if<ValueSlot>(&slot);
    std::string name = key.name;
    const std::string value = value_of(name, plain ? *plain : ValueSlot(&config.out), key.rule);
    if (chance(hostility_ / 4))
      name = pick<std::string>({"lr", "stpes", "model", "x", "", name + "x"});
    return name + "=" + value;
  }

  // Words of a configuration; some go into a file.
  std::vector<std::string> config_words(CommandLine& line, bool train) {
    std::vector<std::string> words;
    const bool text = chance(0.4);
    for (const ConfigKey& key : config_keys())
      if (chance(0.12) && std::string_view(key.name) != "out") words.push_back(key_word(key));
    if (text) words.insert(words.end(), {"data.kind=text", "data.files=" + fixture_ + "/a.txt"});
    if (chance(0.15))
      words.push_back("model=" + pick<std::string>({"demo", "demo", "lama-1b", ""}));
    if (train) words.push_back("out=" + path_of(output_folder(), "out"));
    if (chance(0.2))
      words.push_back(
          "arms=" + pick<std::string>({"a; b: v_scale.variant=full", "a; a", "a: steps=1", ";",
                                       "a/b", "..", "a: x=1", "a: steps", "b: attention=softmax-1",
                                       "a: model=demo model.layers=2"}));
    if (train && chance(0.1))
      words.push_back("resume=" + pick<std::string>({fixture_ + "/run", "o0", "absent"}));
    if (chance(0.25)) line.config = config_text(words);
    if (!line.config.empty()) words.push_back("config.json");
    return words;
  }

  // Moves words into a JSON file, which may be damaged.
  std::string config_text(std::vector<std::string>& words) {
    nlohmann::ordered_json json = nlohmann::ordered_json::object();
    std::vector<std::string> rest;
    for (const std::string& word : words) {
      const size_t equals = word.find('=');
      if (chance(0.5) || word.starts_with("resume=") || word.starts_with("out=")) {
        rest.push_back(word);
        continue;
      }
      const std::string value = word.substr(equals + 1);
      const auto parsed = nlohmann::ordered_json::parse(value, nullptr, false);
      if (parsed.is_discarded() || chance(0.5))
        json[word.substr(0, equals)] = value;
      else
        json[word.substr(0, equals)] = parsed;
    }
    words = rest;
    std::string text = json.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::ignore);
    if (chance(hostility_))
      text.insert(below(text.size() + 1),
                  pick<std::string>({"//", "{", "}", "\"", ",", "[[", "\xff", "1e999"}));
    if (chance(hostility_ / 2)) text.resize(below(text.size() + 1));
    return text.empty() ? " " : text;
  }

  std::vector<std::string> part_of(const Option& option, const OptionTable& table,
                                   CommandLine& line) {
    const bool train = table.command() == "train";
    if (option.name == "config") return config_words(line, train);
    if (option.name == "--set") {
      std::vector<std::string> words;
      for (const ConfigKey& key : config_keys())
        if (chance(0.06)) words.insert(words.end(), {"--set", key_word(key)});
      return words;
    }
    if (!chance(option.required ? 1 - hostility_ / 2 : option.is_flag ? 0.12 : 0.3)) return {};
    // These measure the machine for a while.
    if (option.name == "--timing") return {};
    if (option.is_flag) {
      if (chance(hostility_ / 2)) return {option.name + "=1"};
      return {option.name};
    }
    const std::string value = value_of(option.name, option.slot, option.rule);
    if (option.positional()) return {value};
    if (chance(hostility_ / 4)) return {option.name};
    if (chance(0.15)) return {option.name + "=" + value};
    std::vector<std::string> words = {option.name, value};
    if (option.is_list() && chance(0.2))
      words.insert(words.end(), {option.name, value_of(option.name, option.slot, option.rule)});
    return words;
  }

  // Where nothing sets a size, the default would take long.
  void keep_cheap(const std::string& command, CommandLine& line) {
    std::vector<std::string>& words = line.words;
    const auto has = [&](const std::string& start) {
      return line.config.find("\"" + start + "\"") != std::string::npos ||
             std::any_of(words.begin(), words.end(), [&](const std::string& word) {
               return word.starts_with(start + "=") || word == start;
             });
    };
    if (command == "train" || command == "tune")
      for (const char* word : {"steps=2", "batch=2", "length=8", "model.d_model=16",
                               "model.d_ff=24", "data.symbols=9", "optimizer.warmup=1"})
        if (const std::string key = std::string(word).substr(0, std::string(word).find('='));
            !has(key))
          words.emplace_back(word);
    if (command == "dump")
      for (std::string& word : words)
        if (word.starts_with("llama-")) word = "demo";
    if (command == "tune")
      for (std::string& word : words)
        if (word.starts_with("llama-")) word = "demo";
    if (command == "tune" && !has("--rounds")) words.insert(words.end(), {"--rounds", "1"});
    if (command == "demo" && !has("--steps")) words.insert(words.end(), {"--steps", "1"});
    if (command == "demo" && !has("--out")) words.insert(words.end(), {"--out", "shown"});
    if (command == "info" && !has("--quick")) words.emplace_back("--quick");
    if (command == "measure" && has("--text") && !has("--length"))
      words.insert(words.end(), {"--length", "9"});
    if (command == "eval" && !has("--context")) words.insert(words.end(), {"--context", "16"});
  }

  std::mt19937_64 random_;
  std::string fixture_, text_;
  int64_t number_ = 0;
  double hostility_ = 0;
};

}  // namespace

std::string CommandLine::text() const {
  std::string text;
  const auto quoted = [](const std::string& word) {
    std::string result = "'";
    for (char c : word) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return result + "'";
  };
  if (!config.empty()) text += "printf %s " + quoted(config) + " > config.json; ";
  for (const auto& [name, value] : variables) text += name + "=" + quoted(value) + " ";
  text += "weir";
  for (const std::string& word : words) text += " " + quoted(word);
  return text;
}

CommandLine make_command_line(uint64_t seed, uint64_t number, const std::string& fixture) {
  return Maker(seed, number, fixture).make();
}

}  // namespace weir::test
