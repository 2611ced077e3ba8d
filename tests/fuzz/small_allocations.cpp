// Replaces the allocator of the tests by one that refuses more than 64 MiB at once: no input of a
// few kilobytes may make a parser ask for that. (Sanitizers have allocators of their own; under
// libFuzzer -malloc_limit_mb is the guard.)
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#include <cstdlib>
#include <new>

void* operator new(size_t bytes) {
  constexpr size_t kMost = size_t{64} << 20;
  void* memory = bytes > kMost ? nullptr : std::malloc(bytes == 0 ? 1 : bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
#endif
