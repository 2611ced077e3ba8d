// Matrix products and table look-ups.
#include "interpret/matrix.h"
#include "interpret/ops.h"
#include "support/error.h"

namespace weir::reference {

void check_ids(const Call& call, const HostTensor& ids, int64_t vocabulary, bool negative_ignored) {
  for (size_t i = 0; i < ids.data.size(); ++i) {
    if (ids.data[i] < static_cast<double>(vocabulary) && (ids.data[i] >= 0 || negative_ignored))
      continue;
    Shape position;
    int64_t rest = static_cast<int64_t>(i);
    for (int64_t stride : strides_of(ids.shape())) {
      position.push_back(rest / stride);
      rest %= stride;
    }
    user_error(op_name(call.node.op),
               "id {} at position {} is outside the vocabulary of {}. Use ids from 0 to {}, or a "
               "larger vocabulary.",
               ids.data[i], to_string(position), vocabulary, vocabulary - 1);
  }
}

Results matmul(const Call& call) {
  const HostTensor &a = call.in(0), &b = call.in(1);
  bool transpose_a = call.attrs().get_bool("transpose_a");
  bool transpose_b = call.attrs().get_bool("transpose_b");
  HostTensor result = call.operands.size() == 3 ? call.in(2) : zeros(call.type());
  int64_t a_rows = a.shape()[a.shape().size() - 2], a_columns = a.shape().back();
  int64_t b_rows = b.shape()[b.shape().size() - 2], b_columns = b.shape().back();
  int64_t rows = call.type().shape[call.type().shape.size() - 2];
  int64_t columns = call.type().shape.back();
  int64_t batch = call.type().elements() / (rows * columns);
  if (b.type.rank() == 2 && !transpose_a) {  // a two-dimensional b serves all rows at once
    a_rows *= batch;
    rows *= batch;
    batch = 1;
  }
  int64_t b_step = b.type.rank() == 2 ? 0 : b_rows * b_columns;
  for (int64_t i = 0; i < batch; ++i) {
    auto out = view(result, i * rows * columns, rows, columns, columns);
    auto lhs = view(a, i * a_rows * a_columns, a_rows, a_columns, a_columns);
    auto rhs = view(b, i * b_step, b_rows, b_columns, b_columns);
    if (transpose_a && transpose_b)
      out.noalias() += lhs.transpose() * rhs.transpose();
    else if (transpose_a)
      out.noalias() += lhs.transpose() * rhs;
    else if (transpose_b)
      out.noalias() += lhs * rhs.transpose();
    else
      out.noalias() += lhs * rhs;
  }
  if (result.type.dtype == DType::i32)  // of bytes: sums are whole numbers that f64 holds
    for (double& sum : result.data) sum = wrap_integer(DType::i32, static_cast<int64_t>(sum));
  return results(std::move(result));
}

Results embedding(const Call& call) {
  const HostTensor &table = call.in(0), &ids = call.in(1);
  check_ids(call, ids, table.shape()[0], false);
  int64_t width = table.shape()[1];
  HostTensor result = zeros(call.type());
  for (size_t i = 0; i < ids.data.size(); ++i)
    std::copy_n(table.data.begin() + static_cast<int64_t>(ids.data[i]) * width, width,
                result.data.begin() + static_cast<int64_t>(i) * width);
  return results(std::move(result));
}

Results embedding_grad(const Call& call) {
  const HostTensor &ids = call.in(0), &dy = call.in(1);
  check_ids(call, ids, call.attrs().get_int("vocabulary"), false);
  int64_t width = call.type().shape[1];
  HostTensor result = zeros(call.type());
  for (size_t i = 0; i < ids.data.size(); ++i)
    for (int64_t j = 0; j < width; ++j)
      result.data[static_cast<int64_t>(ids.data[i]) * width + j] +=
          dy.data[static_cast<int64_t>(i) * width + j];
  return results(std::move(result));
}

}  // namespace weir::reference
