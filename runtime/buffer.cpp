#include "runtime/buffer.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "support/align.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

constexpr size_t huge_page = 2 << 20, alignment = WEIR_BUFFER_ALIGNMENT;
constexpr unsigned char guard_pattern = 0xa5;

static_assert(WEIR_BUFFER_ALIGNMENT == kAlignment);

// Zero pages from the system, of which a page is taken when it is first touched: by the worker that
// needs it, and only once. Null when there are none.
void* map_huge(size_t bytes) {
  const size_t size = round_up(bytes, huge_page);
  void* mapped =
      mmap(nullptr, size + huge_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  char* begin = static_cast<char*>(mapped);
  const size_t head =
      round_up(reinterpret_cast<uintptr_t>(begin), huge_page) - reinterpret_cast<uintptr_t>(begin);
  if (head > 0) munmap(begin, head);
  if (head < huge_page) munmap(begin + head + size, huge_page - head);
  madvise(begin + head, size, MADV_HUGEPAGE);
  return begin + head;
}

}  // namespace

Buffer::Buffer(size_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  data_ = bytes >= huge_page ? map_huge(bytes)
                             : std::aligned_alloc(alignment, round_up(bytes, alignment));
  if (!data_)
    user_error("memory",
               "could not get {} from the system; use a smaller micro-batch, model or context",
               human_bytes(static_cast<double>(bytes)));
  if (bytes < huge_page) std::memset(data_, 0, bytes);
}

Buffer::~Buffer() {
  if (bytes_ >= huge_page)
    munmap(data_, round_up(bytes_, huge_page));
  else
    std::free(data_);
}

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
