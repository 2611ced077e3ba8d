// Composites along the last axis, rotary embedding and V-scale.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "interpret/ops.h"

namespace weir::reference {
namespace {

// f(row of x, row of the result, row number) for every row of the last axis.
template <typename F>
Results map_rows(const Call& call, const F& f) {
  const HostTensor& x = call.in(0);
  HostTensor result = zeros(call.type());
  int64_t width = row_length(x.type), rows = row_count(x.type);
  for (int64_t row = 0; row < rows; ++row)
    f(x.data.data() + row * width, result.data.data() + row * width, row);
  return results(std::move(result));
}

// The frequency of pair `index` of features. For Llama 3 three cases by wavelength, as Hugging Face
// has them; for YaRN the ramp by which interpolation replaces extrapolation.
double scaled_frequency(double frequency, int64_t index, const Attrs& attrs) {
  if (!attrs.has("factor")) return frequency;
  double factor = attrs.get_float("factor");
  if (attrs.has("end")) {
    double begin = attrs.get_float("begin"), end = attrs.get_float("end");
    double ramp = std::clamp((static_cast<double>(index) - begin) / (end - begin), 0.0, 1.0);
    return frequency / factor * ramp + frequency * (1 - ramp);
  }
  if (!attrs.has("context")) return frequency / factor;
  double low = attrs.get_float("low"), high = attrs.get_float("high");
  double context = static_cast<double>(attrs.get_int("context"));
  double wavelength = 2 * std::numbers::pi / frequency;
  if (wavelength < context / high) return frequency;
  if (wavelength > context / low) return frequency / factor;
  double share = (context / wavelength - low) / (high - low);
  return (1 - share) * frequency / factor + share * frequency;
}

}  // namespace

Results softmax(const Call& call) {
  int64_t width = row_length(call.type());
  return map_rows(call, [&](const double* x, double* y, int64_t) {
    double largest = *std::max_element(x, x + width), sum = 0;
    for (int64_t i = 0; i < width; ++i) sum += y[i] = std::exp(x[i] - largest);
    for (int64_t i = 0; i < width; ++i) y[i] /= sum;
  });
}

Results rms_norm(const Call& call) {
  int64_t width = row_length(call.type());
  double eps = call.attrs().get_float("eps");
  const double* gamma = call.in(1).data.data();
  return map_rows(call, [&](const double* x, double* y, int64_t) {
    double squares = 0;
    for (int64_t i = 0; i < width; ++i) squares += x[i] * x[i];
    double root = std::sqrt(squares / static_cast<double>(width) + eps);
    for (int64_t i = 0; i < width; ++i) y[i] = x[i] / root * gamma[i];
  });
}

Results layer_norm(const Call& call) {
  int64_t width = row_length(call.type());
  double eps = call.attrs().get_float("eps");
  const double* gamma = call.in(1).data.data();
  const double* beta = call.operands.size() == 3 ? call.in(2).data.data() : nullptr;
  return map_rows(call, [&](const double* x, double* y, int64_t) {
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < width; ++i) mean += x[i];
    mean /= static_cast<double>(width);
    for (int64_t i = 0; i < width; ++i) variance += (x[i] - mean) * (x[i] - mean);
    double root = std::sqrt(variance / static_cast<double>(width) + eps);
    for (int64_t i = 0; i < width; ++i)
      y[i] = (x[i] - mean) / root * gamma[i] + (beta ? beta[i] : 0);
  });
}

// Feature i of the first half and of the second half turn together by position * base^(-2i/d).
Results rope(const Call& call) {
  const Shape& shape = call.type().shape;
  int64_t tokens = shape[1], heads = shape[2], half = shape[3] / 2;
  double base = call.attrs().get_float("base");
  double sign = call.attrs().get_bool("inverse") ? -1 : 1;
  double amplitude = call.attrs().has("amplitude") ? call.attrs().get_float("amplitude") : 1;
  std::vector<double> sines(tokens * half), cosines(tokens * half);
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t i = 0; i < half; ++i) {
      double frequency = std::pow(base, -static_cast<double>(i) / static_cast<double>(half));
      double angle = static_cast<double>(t) * scaled_frequency(frequency, i, call.attrs());
      sines[t * half + i] = sign * amplitude * std::sin(angle);
      cosines[t * half + i] = amplitude * std::cos(angle);
    }
  return map_rows(call, [&](const double* x, double* y, int64_t row) {
    int64_t t = row / heads % tokens;
    for (int64_t i = 0; i < half; ++i) {
      double sine = sines[t * half + i], cosine = cosines[t * half + i];
      y[i] = x[i] * cosine - x[i + half] * sine;
      y[i + half] = x[i + half] * cosine + x[i] * sine;
    }
  });
}

Results v_scale(const Call& call) {
  if (call.attrs().get_string("variant") == "backward") return {call.operands[0]};
  int64_t width = row_length(call.type());
  double c = call.attrs().get_float("c");
  return map_rows(call, [&](const double* v, double* y, int64_t row) {
    double scale = c, squares = 0;
    if (call.operands.size() == 2) {
      const HostTensor& theta = call.in(1);
      scale *= std::exp(theta.data[row % theta.shape()[0]]);
    }
    for (int64_t i = 0; i < width; ++i) squares += v[i] * v[i];
    for (int64_t i = 0; i < width; ++i) y[i] = v[i] * (squares / (squares + scale));
  });
}

}  // namespace weir::reference
