#include <algorithm>

#include "io/bpe.h"
#include "io/hash.h"
#include "io/utf8.h"

namespace weir {
namespace {

/// Numbers and texts into a hash, so that no two lists of them run together.
class Fingerprint {
 public:
  void number(uint64_t value) {
    hasher_.add(std::string_view(reinterpret_cast<const char*>(&value), sizeof value));
  }
  void text(std::string_view value) {
    number(value.size());
    hasher_.add(value);
  }
  void flags(std::initializer_list<bool> values) {
    uint64_t bits = 1;
    for (bool value : values) bits = bits << 1 | (value ? 1 : 0);
    number(bits);
  }
  void ids(const std::vector<int32_t>& list) {
    number(list.size());
    for (int32_t id : list) number(static_cast<uint64_t>(id));
  }
  std::string hex() { return hasher_.hex_128(); }

 private:
  Hasher hasher_;
};

void add_vocabulary(const BpeModel& model, Fingerprint& print) {
  print.number(model.tokens.size());
  for (const std::string& token : model.tokens) print.text(token);
  print.number(model.merges.size());
  for (const auto& [left, right] : model.merges) {
    print.text(left);
    print.text(right);
  }
  print.number(model.scores.size());
  for (float score : model.scores)
    print.text({reinterpret_cast<const char*>(&score), sizeof score});
  print.ids(model.whole);
  print.ids(model.never);
}

}  // namespace

std::string model_fingerprint(const BpeModel& model) {
  Fingerprint print;
  print.text("bpe, Oniguruma, Unicode 16");
  add_vocabulary(model, print);
  print.number(model.added.size());
  for (const AddedToken& token : model.added) {
    print.number(static_cast<uint64_t>(token.id));
    print.text(token.content);
    print.flags({token.normalized, token.single_word, token.strip_left, token.strip_right});
  }
  print.number(model.normal_steps.size());
  for (const NormalStep& step : model.normal_steps) {
    print.number(static_cast<uint64_t>(step.kind));
    print.text(step.pattern);
    print.text(step.content);
  }
  print.number(model.steps.size());
  for (const SplitStep& step : model.steps) {
    print.number(static_cast<uint64_t>(step.kind));
    print.text(step.pattern);
    print.flags({step.invert});
  }
  print.flags({model.characters, model.ignore_merges, model.byte_fallback, model.fuse_unknown,
               model.decoding.space_signs, model.decoding.bytes, model.decoding.strip_first_token});
  print.number(model.decoding.strip);
  print.text(model.unknown);
  return print.hex();
}

std::string byte_spelling(unsigned char byte) {
  const char* digits = "0123456789ABCDEF";
  return std::string("<0x") + digits[byte >> 4] + digits[byte & 15] + ">";
}

BpeModel byte_model() {
  BpeModel model;
  model.source = "bytes";
  for (int byte = 0; byte < 256; ++byte) {
    const char character = static_cast<char>(byte);
    model.tokens.push_back(to_byte_level({&character, 1}));
  }
  return model;
}

bool is_byte_model(const BpeModel& model) {
  return !model.characters && model.merges.empty() && model.added.empty() && model.steps.empty() &&
         model.normal_steps.empty() && model.tokens == byte_model().tokens;
}

std::optional<int32_t> token_id(const BpeModel& model, std::string_view text) {
  for (const AddedToken& token : model.added)
    if (token.content == text) return token.id;
  const auto found = std::find(model.tokens.begin(), model.tokens.end(), text);
  if (text.empty() || found == model.tokens.end()) return std::nullopt;
  return static_cast<int32_t>(found - model.tokens.begin());
}

}  // namespace weir
