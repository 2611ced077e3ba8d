#include "runtime/buffer.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "support/align.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

constexpr size_t huge_page = 2 << 20;
constexpr unsigned char guard_pattern = 0xa5;

static_assert(WEIR_BUFFER_ALIGNMENT == kAlignment);

}  // namespace

Buffer::Buffer(size_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  const bool huge = bytes >= huge_page;
  const size_t alignment = huge ? huge_page : WEIR_BUFFER_ALIGNMENT;
  data_ = std::aligned_alloc(alignment, round_up(bytes, alignment));
  if (!data_)
    user_error("memory",
               "could not get {} from the system; use a smaller micro-batch, model or context",
               human_bytes(static_cast<double>(bytes)));
  if (huge) madvise(data_, round_up(bytes, alignment), MADV_HUGEPAGE);
  std::memset(data_, 0, bytes);
}

Buffer::~Buffer() { std::free(data_); }

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

GuardedBuffer::GuardedBuffer(size_t bytes, bool aligned) : bytes_(bytes) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t used = aligned ? round_up(bytes, size_t{WEIR_BUFFER_ALIGNMENT}) : bytes;
  const size_t inner = std::max(page, round_up(used, page));
  mapped_ = inner + 2 * page;
  mapping_ = mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  WEIR_CHECK(mapping_ != MAP_FAILED, "mmap of {} bytes", mapped_);
  unsigned char* start = static_cast<unsigned char*>(mapping_) + page;
  WEIR_CHECK(mprotect(start, inner, PROT_READ | PROT_WRITE) == 0, "mprotect of {} bytes", inner);
  end_ = start + inner;
  data_ = end_ - used;
  std::memset(start, guard_pattern, inner);
}

GuardedBuffer::~GuardedBuffer() { munmap(mapping_, mapped_); }

bool GuardedBuffer::overrun() const {
  return std::any_of(data_ + bytes_, end_, [](unsigned char c) { return c != guard_pattern; });
}

}  // namespace weir
