#include "io/tokenizer_json.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "io/file.h"
#include "io/json_member.h"
#include "io/json_text.h"
#include "io/line_reader.h"
#include "io/tokenizer_steps_json.h"
#include "support/error.h"

namespace weir {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMostIds = 1 << 24;

/// One more than the largest id of so many tokens. Published vocabularies have few holes, and an id
/// far beyond the number of tokens would ask for a huge table.
int64_t id_limit(size_t tokens) {
  return std::min(kMostIds, static_cast<int64_t>(16 * tokens + 4096));
}

bool is_id(const Json& value, int64_t limit) {
  return value.is_number_integer() && value.get<int64_t>() >= 0 && value.get<int64_t>() < limit;
}

void read_vocabulary(const Json& vocabulary, int64_t limit, BpeModel& model, Problems& problems) {
  if (!vocabulary.is_object() || vocabulary.empty()) {
    problems.add(
        fmt::format("{}: the vocabulary is a JSON {}{}; an object of token to id is needed.",
                    model.source, vocabulary.empty() ? "empty " : "", vocabulary.type_name()));
    return;
  }
  size_t bad = 0;
  for (const auto& [token, id] : vocabulary.items()) {
    if (is_id(id, limit)) {
      auto place = static_cast<size_t>(id.get<int64_t>());
      if (place >= model.tokens.size()) model.tokens.resize(place + 1);
      if (model.tokens[place].empty()) {
        model.tokens[place] = token;
        continue;
      }
      if (++bad <= kMaxListed)
        problems.add(fmt::format("{}: id {} has two tokens, \"{}\" and \"{}\".", model.source,
                                 place, model.tokens[place], token));
    } else if (++bad <= kMaxListed) {
      problems.add(fmt::format("{}: token \"{}\" has id {}; a number from 0 to {} is needed.",
                               model.source, token, id.dump(), limit - 1));
    }
  }
  if (bad > kMaxListed)
    problems.add(
        fmt::format("{}: and {} further vocabulary entries.", model.source, bad - kMaxListed));
}

/// "left right" to its two parts; false unless there is exactly one space.
bool split_merge(const std::string& line, BpeModel& model) {
  size_t space = line.find(' ');
  if (space == 0 || space == line.npos || space + 1 == line.size() ||
      line.find(' ', space + 1) != line.npos)
    return false;
  model.merges.emplace_back(line.substr(0, space), line.substr(space + 1));
  return true;
}

void read_merges(const Json& merges, BpeModel& model, Problems& problems) {
  if (!merges.is_array()) {
    problems.add(fmt::format("{}: model.merges is a JSON {}; a list is needed.", model.source,
                             merges.type_name()));
    return;
  }
  for (const Json& merge : merges) {
    if (merge.is_string() && split_merge(merge.get<std::string>(), model)) continue;
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      model.merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
      continue;
    }
    problems.add(fmt::format("{}: merge {} is {}; two tokens are needed.", model.source,
                             model.merges.size() + 1, merge.dump()));
    return;
  }
}

void read_model(const Json& json, int64_t limit, BpeModel& model, Problems& problems) {
  std::string type = text_of(member(json, "type"));
  // Early files do not say the type of their model.
  if (type != "BPE" && !(type.empty() && json.is_object() && json.contains("merges"))) {
    problems.add(
        fmt::format("{}: the model is of type \"{}\"; BPE is needed. Give token ids instead.",
                    model.source, type));
    return;
  }
  read_vocabulary(member(json, "vocab"), limit, model, problems);
  read_merges(member(json, "merges"), model, problems);
  if (const Json& dropout = member(json, "dropout"); dropout.is_number() && dropout != 0.0)
    problems.add(
        fmt::format("{}: model.dropout is {}; null is needed, as ids must be the same every "
                    "time.",
                    model.source, dropout.dump()));
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (std::string text = text_of(member(json, affix)); !text.empty())
      problems.add(
          fmt::format("{}: model.{} is \"{}\"; null is needed.", model.source, affix, text));
  model.byte_fallback = flag(json, "byte_fallback");
  model.unknown = text_of(member(json, "unk_token"));
  model.fuse_unknown = flag(json, "fuse_unk");
  model.ignore_merges = flag(json, "ignore_merges");
}

void read_added(const Json& added, int64_t limit, BpeModel& model, Problems& problems) {
  for (const Json& json : added) {
    const Json& id = member(json, "id");
    if (!is_id(id, limit) || text_of(member(json, "content")).empty()) {
      problems.add(fmt::format("{}: added token {} has no valid id and content.", model.source,
                               json.dump()));
      continue;
    }
    model.added.push_back(added_token(json, id.get<int32_t>()));
  }
}

}  // namespace

BpeModel load_vocab_and_merges(const std::string& vocab_path, const std::string& merges_path) {
  BpeModel model;
  model.source = vocab_path;
  Problems problems("tokenizer");
  const Json vocabulary = parse_json<Json>(MappedFile(vocab_path).text(), "tokenizer", vocab_path);
  read_vocabulary(vocabulary, id_limit(vocabulary.size()), model, problems);
  LineReader reader(merges_path);
  std::string line;
  while (reader.next(line)) {
    if (line.empty() || line.starts_with("#version")) continue;
    if (split_merge(line, model)) continue;
    problems.add(
        fmt::format("{}, line {}: \"{}\" is no merge; two tokens and one space between them "
                    "are needed.",
                    merges_path, reader.line_number(), line));
    break;
  }
  problems.raise();
  return model;
}

BpeModel load_tokenizer_json(const std::string& path) {
  return parse_tokenizer_json(MappedFile(path).text(), path);
}

BpeModel parse_tokenizer_json(std::string_view text, const std::string& source) {
  BpeModel model;
  model.source = source;
  Problems problems("tokenizer");
  Json json = parse_json<Json>(text, "tokenizer", source);
  const Json& added = member(json, "added_tokens");
  const int64_t limit = id_limit(member(member(json, "model"), "vocab").size() + added.size());
  read_model(member(json, "model"), limit, model, problems);
  read_added(added, limit, model, problems);
  read_normalizer(member(json, "normalizer"), model, problems);
  read_pre_tokenizer(member(json, "pre_tokenizer"), model, problems);
  read_decoder(member(json, "decoder"), model, problems);
  problems.raise();
  read_post_processor(member(json, "post_processor"), model.special);
  return model;
}

}  // namespace weir
