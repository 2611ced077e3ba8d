#include "io/hash.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>

#include "io/file.h"
#include "support/error.h"

namespace weir {

struct Hasher::State {
  XXH3_state_t* xxh = XXH3_createState();
  ~State() { XXH3_freeState(xxh); }
};

uint64_t hash_64(std::string_view bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

// A state made for 128 bits gives the 64-bit hash as well.
Hasher::Hasher() : state_(std::make_unique<State>()) {
  WEIR_CHECK(state_->xxh != nullptr, "out of memory");
  XXH3_128bits_reset(state_->xxh);
}
Hasher::~Hasher() = default;
Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;

void Hasher::add(std::string_view bytes) {
  XXH3_128bits_update(state_->xxh, bytes.data(), bytes.size());
}

uint64_t Hasher::hash_64() const { return XXH3_64bits_digest(state_->xxh); }

std::string Hasher::hex_128() const {
  XXH128_hash_t hash = XXH3_128bits_digest(state_->xxh);
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

std::string hash_of_file(const std::string& path) {
  constexpr size_t part = size_t{8} << 20;
  const MappedFile file(path);
  Hasher hasher;
  for (size_t begin = 0; begin < file.size(); begin += part) {
    const size_t size = std::min(part, file.size() - begin);
    hasher.add(file.text().substr(begin, size));
    file.release(file.bytes().subspan(begin, size));
  }
  return hasher.hex_128();
}

}  // namespace weir
