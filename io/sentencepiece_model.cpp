#include "io/sentencepiece_model.h"

#include <array>
#include <cstring>
#include <filesystem>
#include <functional>
#include <optional>

#include "io/file.h"
#include "io/utf8.h"
#include "support/error.h"

namespace weir {
namespace {

constexpr size_t kMaxPieces = 1 << 24;

/// One field of a message: a number (of any wire type but bytes) or bytes.
struct Field {
  uint32_t number = 0;
  uint64_t value = 0;
  std::string_view bytes;
};

/// Reads the fields of a message of protocol buffers in order.
class Message {
 public:
  explicit Message(std::string_view bytes) : rest_(bytes) {}

  /// False at the end, and where the message is damaged.
  bool next(Field& field) {
    if (rest_.empty() || damaged_) return false;
    const uint64_t tag = varint();
    field = {.number = static_cast<uint32_t>(tag >> 3), .value = 0, .bytes = {}};
    switch (tag & 7) {
      case 0:
        field.value = varint();
        break;
      case 1:
        field.value = fixed(8);
        break;
      case 2:
        field.bytes = take(varint());
        break;
      case 5:
        field.value = fixed(4);
        break;
      default:
        damaged_ = true;
    }
    return !damaged_;
  }
  bool damaged() const { return damaged_; }

 private:
  std::string_view take(uint64_t count) {
    if (count > rest_.size()) {
      damaged_ = true;
      return {};
    }
    const std::string_view taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }
  uint64_t fixed(size_t count) {
    uint64_t value = 0;
    const std::string_view bytes = take(count);
    std::memcpy(&value, bytes.data(), bytes.size());
    return value;
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const std::string_view byte = take(1);
      if (damaged_) return 0;
      value |= static_cast<uint64_t>(byte[0] & 0x7F) << shift;
      if ((byte[0] & 0x80) == 0) return value;
    }
    damaged_ = true;
    return 0;
  }

  std::string_view rest_;
  bool damaged_ = false;
};

enum class PieceType : uint64_t { normal = 1, unknown, control, user_defined, unused, byte };

struct Piece {
  std::string_view text;
  float score = 0;
  PieceType type = PieceType::normal;
};

/// The fields of a model that matter, with the defaults of the format.
struct Proto {
  std::vector<Piece> pieces;
  uint64_t model_type = 1;  ///< 1 Unigram, 2 BPE, 3 word, 4 character
  bool byte_fallback = false;
  bool suffix = false;
  std::array<int64_t, 4> special = {0, 1, 2, -1};  ///< unknown, begin, end, padding
  std::string_view rule;
  std::string_view charsmap;
  bool dummy_prefix = true, remove_spaces = true, escape = true;
};

bool each_field(std::string_view bytes, const std::function<void(const Field&)>& visit) {
  Message message(bytes);
  Field field;
  while (message.next(field)) visit(field);
  return !message.damaged();
}

bool read_piece(std::string_view bytes, Proto& proto) {
  Piece piece;
  const bool good = each_field(bytes, [&](const Field& field) {
    if (field.number == 1) piece.text = field.bytes;
    if (field.number == 2) {
      const auto bits = static_cast<uint32_t>(field.value);
      std::memcpy(&piece.score, &bits, sizeof bits);
    }
    if (field.number == 3) piece.type = static_cast<PieceType>(field.value);
  });
  proto.pieces.push_back(piece);
  return good && proto.pieces.size() <= kMaxPieces;
}

bool read_trainer(std::string_view bytes, Proto& proto) {
  return each_field(bytes, [&](const Field& field) {
    if (field.number == 3) proto.model_type = field.value;
    if (field.number == 24) proto.suffix = field.value != 0;
    if (field.number == 35) proto.byte_fallback = field.value != 0;
    if (field.number >= 40 && field.number <= 43)
      proto.special[field.number - 40] = static_cast<int32_t>(field.value);
  });
}

bool read_normalizer(std::string_view bytes, Proto& proto) {
  return each_field(bytes, [&](const Field& field) {
    if (field.number == 1) proto.rule = field.bytes;
    if (field.number == 2) proto.charsmap = field.bytes;
    if (field.number == 3) proto.dummy_prefix = field.value != 0;
    if (field.number == 4) proto.remove_spaces = field.value != 0;
    if (field.number == 5) proto.escape = field.value != 0;
  });
}

/// False for what is no such message.
bool read_proto(std::string_view bytes, Proto& proto) {
  bool good = true;
  good = each_field(bytes,
                    [&](const Field& field) {
                      if (field.number == 1) good = read_piece(field.bytes, proto) && good;
                      if (field.number == 2) good = read_trainer(field.bytes, proto) && good;
                      if (field.number == 3) good = read_normalizer(field.bytes, proto) && good;
                    }) &&
         good;
  return good && !proto.pieces.empty();
}

void check(const Proto& proto, const std::string& path, Problems& problems) {
  constexpr std::array names = {"", "Unigram", "BPE", "word", "character"};
  if (proto.model_type != 2)
    problems.add(fmt::format(
        "{}: the SentencePiece model is of type {}; BPE is needed. Give token ids instead.", path,
        proto.model_type < names.size() ? names[proto.model_type]
                                        : std::to_string(proto.model_type)));
  if (!proto.charsmap.empty())
    problems.add(fmt::format("{}: the model changes characters by the rule {}; identity is needed.",
                             path, proto.rule));
  if (proto.suffix)
    problems.add(
        fmt::format("{}: the model puts white space after words; before is needed.", path));
  if (!proto.escape)
    problems.add(fmt::format("{}: the model keeps spaces as they are; U+2581 is needed.", path));
  for (const Piece& piece : proto.pieces)
    if (piece.type == PieceType::unused || piece.type < PieceType::normal ||
        piece.type > PieceType::byte) {
      problems.add(fmt::format("{}: the piece \"{}\" is of type {}, which is not implemented.",
                               path, piece.text, static_cast<uint64_t>(piece.type)));
      break;
    }
}

void add_pieces(const Proto& proto, BpeModel& model) {
  for (const Piece& piece : proto.pieces) {
    const auto id = static_cast<int32_t>(model.tokens.size());
    model.tokens.emplace_back(piece.text);
    model.scores.push_back(piece.score);
    if (piece.type == PieceType::user_defined) model.whole.push_back(id);
    if (piece.type == PieceType::unknown) model.unknown = piece.text;
    if (piece.type != PieceType::normal && piece.type != PieceType::user_defined)
      model.never.push_back(id);
  }
}

/// What normalizer.cc does with spaces when no rule changes characters.
void add_spaces(const Proto& proto, BpeModel& model) {
  using Kind = NormalStep::Kind;
  const std::string sign(kSpaceSign);
  if (proto.remove_spaces) model.normal_steps.push_back({Kind::replace, "\\A +", ""});
  if (proto.dummy_prefix) model.normal_steps.push_back({Kind::prepend, "", sign});
  if (proto.remove_spaces) model.normal_steps.push_back({Kind::replace, " +", " "});
  model.normal_steps.push_back({Kind::replace, " ", sign});
  if (proto.remove_spaces)
    model.normal_steps.push_back({Kind::replace, fmt::format("(?:{})+\\z", sign), ""});
  model.decoding = {.space_signs = true, .bytes = true, .strip = proto.dummy_prefix ? 1U : 0U};
}

void add_special(const Proto& proto, SpecialTokens& special) {
  auto name = [&](size_t which, const char* key, std::optional<NamedToken>& token) {
    const int64_t id = proto.special[which];
    if (id >= 0 && static_cast<size_t>(id) < proto.pieces.size())
      token = NamedToken{static_cast<int32_t>(id),
                         std::string(proto.pieces[static_cast<size_t>(id)].text),
                         fmt::format("tokenizer.model: {}", key)};
  };
  name(1, "bos_id", special.begin);
  name(2, "eos_id", special.end);
  name(3, "pad_id", special.pad);
}

}  // namespace

BpeModel load_sentencepiece_model(const std::string& path) {
  const MappedFile file(path);
  Proto proto;
  if (!read_proto(file.text(), proto))
    user_error("tokenizer",
               "{} is no SentencePiece model, or a damaged one. (A tokenizer.model of tiktoken is "
               "not read; give the model's tokenizer.json instead.)",
               path);
  BpeModel model;
  model.source = path;
  model.characters = true;
  model.byte_fallback = proto.byte_fallback;
  model.fuse_unknown = true;
  Problems problems("tokenizer");
  check(proto, path, problems);
  problems.raise();
  add_pieces(proto, model);
  add_spaces(proto, model);
  add_special(proto, model.special);
  return model;
}

}  // namespace weir
