#pragma once
// Row-major Eigen views of host tensors, with a distance between rows.
#include <Eigen/Dense>

#include "interpret/host_tensor.h"

namespace weir::reference {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Vector = Eigen::VectorXd;
using MatrixView = Eigen::Map<Matrix, 0, Eigen::OuterStride<>>;
using ConstMatrixView = Eigen::Map<const Matrix, 0, Eigen::OuterStride<>>;

inline MatrixView view(HostTensor& tensor, int64_t offset, int64_t rows, int64_t columns,
                       int64_t stride) {
  return {tensor.data.data() + offset, rows, columns, Eigen::OuterStride<>(stride)};
}
inline ConstMatrixView view(const HostTensor& tensor, int64_t offset, int64_t rows, int64_t columns,
                            int64_t stride) {
  return {tensor.data.data() + offset, rows, columns, Eigen::OuterStride<>(stride)};
}

}  // namespace weir::reference
