#include "interpret/tensor_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdint>

#include "testing/error_of.h"

namespace weir {
namespace {

using test::error_of;
using ::testing::HasSubstr;
using Doubles = std::vector<double>;

constexpr std::array<float, 6> kSix = {0, 1, 2, 3, 4, 5.5};

TEST(TensorView, ReadsElementsWhereTheyLie) {
  const TensorView view(f32({2, 3}), kSix.data());
  EXPECT_EQ(view.strides(), (std::vector<int64_t>{3, 1}));
  EXPECT_TRUE(view.is_contiguous());
  EXPECT_EQ(view.at({1, 2}), 5.5);
  EXPECT_EQ(view.host(), (HostTensor{f32({2, 3}), {0, 1, 2, 3, 4, 5.5}}));
  view.floats([](auto elements) {
    EXPECT_EQ(elements.size(), 6u);
    EXPECT_EQ(static_cast<const void*>(elements.data()), kSix.data());
  });
  EXPECT_EQ(TensorView(f32({}), kSix.data() + 5).at({}), 5.5);
}

TEST(TensorView, TransposesAndSlicesWithoutACopy) {
  const TensorView view(f32({2, 3}), kSix.data()), transposed = view.transposed({1, 0});
  EXPECT_EQ(transposed.shape(), (Shape{3, 2}));
  EXPECT_EQ(transposed.host().data, (Doubles{0, 3, 1, 4, 2, 5.5}));
  EXPECT_FALSE(transposed.is_contiguous());
  EXPECT_EQ(transposed.data(), kSix.data());
  const TensorView part = view.slice(1, 1, 3);
  EXPECT_EQ(part.host(), (HostTensor{f32({2, 2}), {1, 2, 4, 5.5}}));
  EXPECT_EQ(part.at({1, 0}), 4);
  EXPECT_EQ(part.transposed({1, 0}).slice(0, 1, 2).host().data, (Doubles{2, 5.5}));
  EXPECT_TRUE(view.slice(0, 1, 2).is_contiguous());
  const TensorView repeated(f32({2, 3}), {0, 1}, kSix.data());
  EXPECT_EQ(repeated.host().data, (Doubles{0, 1, 2, 0, 1, 2}));
}

TEST(TensorView, KnowsEveryDtype) {
  const HostTensor given{f32({5}), {-3, 0, 1, 2.5, 200}};
  const auto stored = [&](DType dtype) {
    std::array<double, 5> memory{};
    TensorView(given).copy_to(dtype, memory.data());
    return TensorView({dtype, {5}}, memory.data()).host().data;
  };
  EXPECT_EQ(stored(DType::f64), given.data);
  EXPECT_EQ(stored(DType::f32), given.data);
  EXPECT_EQ(stored(DType::bf16), given.data);
  EXPECT_EQ(stored(DType::f16), given.data);
  EXPECT_EQ(stored(DType::i32), (Doubles{-3, 0, 1, 2, 200}));
  EXPECT_EQ(stored(DType::i8), (Doubles{-3, 0, 1, 2, 127}));
  EXPECT_EQ(stored(DType::u8), (Doubles{0, 0, 1, 2, 200}));
  EXPECT_EQ(stored(DType::boolean), (Doubles{1, 0, 1, 1, 1}));
  // From one stored type to another, through a view with gaps.
  std::array<uint8_t, 3> bytes{};
  TensorView(f32({2, 3}), kSix.data()).transposed({1, 0}).slice(1, 1, 2).copy_to(DType::u8, &bytes);
  EXPECT_EQ(bytes, (std::array<uint8_t, 3>{3, 4, 5}));
}

TEST(TensorView, AHostTensorIsAViewOfDoubles) {
  const HostTensor tensor{i32({2}), {7, -1}};
  const TensorView view = tensor;
  EXPECT_EQ(view.type(), (Type{DType::f64, {2}}));
  EXPECT_EQ(view.data(), tensor.data.data());
  EXPECT_EQ(view.at({1}), -1);
  EXPECT_THAT(error_of([] { TensorView(HostTensor{f32({3}), {1}}); }),
              HasSubstr("a tensor f32[3] has 1 elements in its data, but 3 are needed."));
}

TEST(TensorView, WhatIsNotThereIsAUserError) {
  const TensorView view(f32({2, 3}), kSix.data());
  EXPECT_THAT(error_of([&] { view.at({2, 0}); }),
              HasSubstr("index 2 lies outside of axis 0 of f32[2,3]."));
  EXPECT_THAT(error_of([&] { view.at({1}); }),
              HasSubstr("1 indices are given for an element of f32[2,3], but 2 are needed."));
  EXPECT_THAT(error_of([&] { view.transposed({0, 0}); }),
              HasSubstr("[0,0] is no permutation of the axes of f32[2,3]."));
  EXPECT_THAT(error_of([&] { view.slice(2, 0, 1); }), HasSubstr("f32[2,3] has no axis 2."));
  EXPECT_THAT(error_of([&] { view.slice(1, 2, 4); }),
              HasSubstr("indices 2 to 3 are not along axis 1 of f32[2,3]."));
  EXPECT_THAT(error_of([&] { TensorView(f32({2, 3}), {1}, kSix.data()); }),
              HasSubstr("1 strides are given for f32[2,3], but one an axis is needed."));
}

}  // namespace
}  // namespace weir
