/* The contract between the runtime and compiled kernels; plain C, because compiled code knows no
 * C++.
 *
 * A kernel computes tiles [first_tile, last_tile) of its fixed grid of tiles. The grid belongs to
 * the kernel, never to the number of threads, so any split of the grid among threads gives equal
 * bits.
 *
 *  - buffers[i] is the base address of buffer i, aligned to WEIR_BUFFER_ALIGNMENT; shapes, strides
 *    and storage types are compiled into the kernel. A kernel touches no byte outside its buffers:
 *    a buffer may end right before an unmapped page.
 *  - Two buffers of a kernel do not overlap, unless the kernel declares one written in place.
 *  - scratch is private to the calling thread for the duration of the call, aligned alike, of the
 * size that the kernel's plan states; NULL when that is 0. Its contents are undefined on entry.
 *  - A kernel allocates nothing, throws nothing and calls nothing outside its own object.
 *  - It rounds to nearest and flushes denormals (inputs and results) inside, and hands the caller's
 *    floating-point mode back unchanged. Sticky exception flags are not kept.
 */
#ifndef WEIR_RUNTIME_ABI_H
#define WEIR_RUNTIME_ABI_H

#include <stdint.h>

#define WEIR_BUFFER_ALIGNMENT 64

#ifdef __cplusplus
extern "C" {
#endif

typedef void (*weir_kernel)(void* const* buffers, int64_t first_tile, int64_t last_tile,
                            void* scratch);

#ifdef __cplusplus
}
#endif

#endif
