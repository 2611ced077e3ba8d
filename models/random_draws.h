#pragma once
// Random numbers drawn inside of a program, from the counter of op random_bits: pure functions of
// (low, high, key), the same for any number of threads, and computed again wherever that is
// cheaper than keeping them. Operands are i32 and broadcast.
#include "ir/builder.h"

namespace weir {

/// The place of a draw: a 64-bit counter in two halves, and a key. Different places give
/// independent numbers.
struct DrawAt {
  Tensor low, high, key;
};

/// f32 in [0, 1], in steps of 2^-24 or finer; 1 only by rounding (probability 2^-26).
Tensor random_uniform(const DrawAt& at, const Where& where = Where::current());
/// f32 with 1 at one of [0, n) along the last axis, which has size n, and 0 elsewhere: the choice
/// that a uniform number makes of n equal parts.
Tensor random_one_hot(const DrawAt& at, int64_t n, const Where& where = Where::current());
/// Standard normal numbers, f32, by the quantile function of 32 bits: |z| is at most 6.34, and each
/// tail is accurate in relative terms. The inverse error function is the single-precision
/// approximation of M. Giles, "Approximating the erfinv function", GPU Computing Gems, 2011 (error
/// about 3e-7).
Tensor random_normal(const DrawAt& at, const Where& where = Where::current());

}  // namespace weir
