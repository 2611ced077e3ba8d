#include "io/token_cache.h"

#include <filesystem>
#include <stdexcept>

#include "io/encoded_text.h"
#include "io/hash.h"
#include "io/utf8.h"
#include "support/cache_folder.h"
#include "support/error.h"
#include "support/log.h"

namespace weir {
namespace {

constexpr std::string_view kCacheMagic = "WEIRTOKS";
constexpr uint32_t kVersion = 1;
constexpr int32_t kNoSeparator = -1;

/// The first 64 bytes of a cache file, little-endian; the ids follow, id_bytes each.
struct CacheHeader {
  char magic[8];
  uint32_t version;
  uint32_t id_bytes;
  uint64_t count;
  uint64_t documents;
  int32_t vocabulary;
  int32_t separator;
  uint64_t content;  ///< hash of the ids' bytes and of the header with this field zero
  char key[16];      ///< raw bytes of the key's hexadecimal digits
};
static_assert(sizeof(CacheHeader) == 64);

uint64_t content_hash(CacheHeader header, const Hasher& ids) {
  header.content = 0;
  Hasher hasher;
  hasher.add({reinterpret_cast<const char*>(&header), sizeof header});
  uint64_t of_ids = ids.hash_64();
  hasher.add({reinterpret_cast<const char*>(&of_ids), sizeof of_ids});
  return hasher.hash_64();
}

void put_key(const std::string& hex, CacheHeader& header) {
  for (size_t i = 0; i < sizeof header.key; ++i)
    header.key[i] = static_cast<char>(std::stoi(hex.substr(2 * i, 2), nullptr, 16));
}

}  // namespace

/// Makes TokenStreams.
class TokenCache {
 public:
  TokenCache(const TextSource& source, const Tokenizer& tokenizer, const TextTokens& tokens,
             const TokenWishes& names)
      : source_(source),
        tokenizer_(tokenizer),
        names_(names),
        separator_required_(tokens.separator_required) {
    Hasher hasher;
    const std::string separator = tokens.separator.id   ? fmt::format("{}", *tokens.separator.id)
                                  : separator_required_ ? "unknown"
                                                        : "none";
    hasher.add(fmt::format("version {} separator {} tokenizer {} source {}", kVersion, separator,
                           tokenizer.fingerprint(), source.fingerprint()));
    stream_.key_ = hasher.hex_128();
    stream_.vocabulary_ = tokenizer.vocabulary_size();
    stream_.separator_ = tokens.separator.id;
    stream_.narrow_ = stream_.vocabulary_ <= 65536;
  }

  TokenStream open(const std::string& folder) {
    std::string path =
        (std::filesystem::path(folder) / ("tokens-" + stream_.key_ + ".bin")).string();
    if (file_exists(path)) {
      std::string problem;
      try {
        problem = read(path);
      } catch (const UserError& error) {
        problem = error.what();
      }
      if (problem.empty()) return std::move(stream_);
      log_warning("the token cache {} is damaged ({}); the text is tokenised again.", path,
                  problem);
    }
    try {
      make(folder, path);
    } catch (const NotKept& reason) {
      log_once(LogLevel::warning,
               fmt::format("the tokenised text is not kept: {} {}", reason.what(), cache_advice()));
      return in_memory();
    }
    std::string problem = read(path);
    WEIR_CHECK(problem.empty(), "{} was just written: {}", path, problem);
    return std::move(stream_);
  }

  TokenStream in_memory() {
    tokenise([&](std::span<const std::byte> ids) {
      stream_.memory_.insert(stream_.memory_.end(), ids.begin(), ids.end());
    });
    stream_.data_ = stream_.memory_.data();
    return std::move(stream_);
  }

 private:
  /// The cache could not be written, which is no reason to fail.
  struct NotKept : std::runtime_error {
    using std::runtime_error::runtime_error;
  };

  template <typename Write>
  static void kept(Write write) {
    try {
      write();
    } catch (const UserError& error) {
      throw NotKept(error.what());
    }
  }

  void make(const std::string& folder, const std::string& path) {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error)
      throw NotKept(
          fmt::format("[tokens] cannot make the cache folder {}: {}.", folder, error.message()));
    std::optional<AtomicFile> file;
    CacheHeader header{};
    const std::span<const std::byte> head = header_bytes(header);
    kept([&] {
      file.emplace(path);
      file->write(head);
    });
    tokenise([&](std::span<const std::byte> ids) { kept([&] { file->write(ids); }); });
    header = make_header();
    kept([&] {
      file->write_at(0, head);
      file->commit();
    });
  }

  size_t id_bytes() const { return stream_.narrow_ ? 2 : 4; }
  static std::span<const std::byte> header_bytes(const CacheHeader& header) {
    return std::as_bytes(std::span(&header, 1));
  }

  CacheHeader make_header() const {
    CacheHeader header{};
    std::memcpy(header.magic, kCacheMagic.data(), kCacheMagic.size());
    header.version = kVersion;
    header.id_bytes = static_cast<uint32_t>(id_bytes());
    header.count = stream_.count_;
    header.documents = stream_.documents_;
    header.vocabulary = stream_.vocabulary_;
    header.separator = stream_.separator_.value_or(kNoSeparator);
    put_key(stream_.key_, header);
    header.content = content_hash(header, ids_hash_);
    return header;
  }

  /// Maps a cache file; what is wrong with it, or "".
  std::string read(const std::string& path) {
    MappedFile file(path);
    if (file.size() < sizeof(CacheHeader)) return fmt::format("only {} bytes", file.size());
    CacheHeader header{};
    std::memcpy(&header, file.bytes().data(), sizeof header);
    if (std::string_view(header.magic, sizeof header.magic) != kCacheMagic)
      return "not a token file";
    if (header.version != kVersion) return fmt::format("version {}", header.version);
    uint64_t data_bytes = file.size() - sizeof(CacheHeader);
    if (header.id_bytes != id_bytes() || data_bytes % header.id_bytes != 0 ||
        header.count != data_bytes / header.id_bytes)
      return fmt::format("{} ids of {} bytes do not fill {} bytes", header.count, header.id_bytes,
                         data_bytes);
    ids_hash_ = Hasher();
    ids_hash_.add(file.text().substr(sizeof(CacheHeader)));
    stream_.count_ = header.count;
    stream_.documents_ = header.documents;
    CacheHeader expected = make_header();
    if (std::memcmp(&expected, &header, sizeof header) != 0) return "its checksum does not match";
    stream_.file_ = std::move(file);
    stream_.data_ = stream_.file_->bytes().data() + sizeof(CacheHeader);
    return "";
  }

  template <typename Sink>
  void tokenise(Sink sink) {
    stream_.count_ = stream_.documents_ = 0;
    ids_hash_ = Hasher();
    DocumentReader reader(source_);
    std::string text;
    std::vector<int32_t> ids;
    std::vector<uint16_t> narrow;
    const bool any_bytes = tokenizer_.fingerprint() == make_byte_tokenizer()->fingerprint();
    size_t ill_formed = 0;
    uint64_t text_bytes = 0;
    while (reader.next(text)) {
      text_bytes += text.size();
      ids.clear();
      tokenizer_.encode(text, ids);
      if (ids.empty()) continue;
      if (stream_.separator_)
        ids.push_back(*stream_.separator_);
      else if (separator_required_ && stream_.documents_ > 0)
        raise_no_separator(tokenizer_, names_);
      ill_formed += !any_bytes && ill_formed_bytes(text) > 0;
      std::span<const std::byte> bytes = std::as_bytes(std::span<const int32_t>(ids));
      if (stream_.narrow_) {
        narrow.assign(ids.begin(), ids.end());
        bytes = std::as_bytes(std::span<const uint16_t>(narrow));
      }
      ids_hash_.add({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
      sink(bytes);
      stream_.count_ += ids.size();
      ++stream_.documents_;
    }
    if (stream_.count_ == 0) raise_no_tokens(source_.names(), text_bytes, tokenizer_);
    if (ill_formed > 0)
      log_warning("{} of {} documents have bytes that are not UTF-8; U+FFFD stands for them.",
                  ill_formed, stream_.documents_);
    log_info("tokenised {} documents into {} ids ({})", stream_.documents_, stream_.count_,
             tokenizer_.description());
  }

  const TextSource& source_;
  const Tokenizer& tokenizer_;
  const TokenWishes& names_;
  bool separator_required_;
  TokenStream stream_;
  Hasher ids_hash_;
};

void TokenStream::copy(size_t begin, std::span<int32_t> out) const {
  WEIR_CHECK(begin <= count_ && out.size() <= count_ - begin, "ids {} to {} of {}", begin,
             begin + out.size(), count_);
  for (size_t i = 0; i < out.size(); ++i) out[i] = (*this)[begin + i];
}

TokenStream open_tokens(const TextSource& source, const Tokenizer& tokenizer,
                        const std::string& folder, const TextTokens& tokens,
                        const TokenWishes& names) {
  TokenCache cache(source, tokenizer, tokens, names);
  return folder.empty() ? cache.in_memory() : cache.open(folder);
}

}  // namespace weir
