#pragma once
// Comparison of tensors: |a - b| <= relative * max(|b|, 1e-3 max|b of the tensor|) + absolute.
#include <gtest/gtest.h>

#include "interpret/host_tensor.h"

namespace weir::test {

struct Tolerance {
  double relative = 1e-9;
  double absolute = 0;
};

/// "" if every element agrees, else a line with the worst one. NaN agrees with NaN and an infinity
/// with itself alone. Types must be equal.
std::string difference(const HostTensor& actual, const HostTensor& expected, Tolerance tolerance);
/// The same for all of `expected`; a name that is missing or too many is a difference.
std::string difference(const Tensors& actual, const Tensors& expected, Tolerance tolerance);

/// EXPECT_TRUE(close(actual, expected, {.relative = 1e-4}));
::testing::AssertionResult close(const HostTensor& actual, const HostTensor& expected,
                                 Tolerance tolerance = {});
::testing::AssertionResult close(const Tensors& actual, const Tensors& expected,
                                 Tolerance tolerance = {});

}  // namespace weir::test
