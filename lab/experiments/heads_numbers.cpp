#include "lab/experiments/heads_numbers.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace weir {
namespace {

constexpr int64_t kSinkQueries = 64;  // as lab/measure has it

size_t place(int64_t index) { return static_cast<size_t>(index); }

double total(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

}  // namespace

LayerSums::LayerSums(int64_t heads) : heads_(heads) {
  const auto H = place(heads);
  for (Cosines* one : {&maps_, &outputs_}) one->sums.resize(H * H), one->counts.resize(H * H);
  for (std::vector<double>* one : {&sink_, &row_sums_, &norms_, &gates_}) one->resize(H);
}

void LayerSums::add_cosines(Cosines& to, const double* rows, int64_t stride, int64_t size) const {
  std::vector<double> norms;
  for (int64_t h = 0; h < heads_; ++h) {
    const double* row = rows + h * stride;
    norms.push_back(std::sqrt(std::inner_product(row, row + size, row, 0.0)));
  }
  for (int64_t h = 0; h < heads_; ++h)
    for (int64_t g = h + 1; g < heads_; ++g) {
      const double both = norms[place(h)] * norms[place(g)];
      if (both == 0) continue;
      const double *a = rows + h * stride, *b = rows + g * stride;
      to.sums[place(h * heads_ + g)] += std::inner_product(a, a + size, b, 0.0) / both;
      to.counts[place(h * heads_ + g)] += 1;
    }
}

void LayerSums::add_pattern(const HostTensor& pattern, bool similarity) {
  const Shape& shape = pattern.shape();
  const int64_t B = shape[0], T = shape[2], S = shape[3];
  const double* data = pattern.data.data();
  for (int64_t b = 0; b < B; ++b)
    for (int64_t t = 0; t < T; ++t) {
      const double* rows = data + (b * heads_ * T + t) * S;
      const int64_t seen = std::min(t + 1, S);
      for (int64_t h = 0; h < heads_; ++h) {
        const double* row = rows + h * T * S;
        const double sum = std::accumulate(row, row + seen, 0.0);
        row_sums_[place(h)] += sum;
        // A share of the row, as in `weir measure`, since not all rows sum to one.
        if (t < kSinkQueries && sum != 0) sink_[place(h)] += row[0] / sum;
      }
      if (similarity && t > 0) add_cosines(maps_, rows, T * S, seen);
    }
  queries_ += static_cast<double>(B * T);
  sink_queries_ += static_cast<double>(B * std::min(T, kSinkQueries));
}

void LayerSums::add_results(const HostTensor& results, const HostTensor& output,
                            const std::vector<double>& bias, bool similarity) {
  const Shape& shape = results.shape();
  const int64_t tokens = shape[0] * shape[1], D = shape[3];
  for (int64_t t = 0; t < tokens; ++t) {
    const double* rows = results.data.data() + t * heads_ * D;
    for (int64_t h = 0; h < heads_; ++h) {
      const double* row = rows + h * D;
      norms_[place(h)] += std::sqrt(std::inner_product(row, row + D, row, 0.0));
    }
    if (similarity) add_cosines(outputs_, rows, D, D);
    for (int64_t i = 0; i < D; ++i) {
      double sum = bias.empty() ? 0 : bias[place(i)];
      for (int64_t h = 0; h < heads_; ++h) sum += rows[h * D + i];
      const double whole = output.data[place(t * D + i)];
      largest_error_ = std::max(largest_error_, std::abs(sum - whole));
      largest_output_ = std::max(largest_output_, std::abs(whole));
    }
  }
  tokens_ += static_cast<double>(tokens);
}

void LayerSums::add_gates(const HostTensor& gates) {
  const int64_t all = std::ssize(gates.data), rows = gates.shape()[0] * gates.shape()[1];
  const int64_t width = all / (rows * heads_);
  for (int64_t i = 0; i < all; ++i) gates_[place(i / width % heads_)] += gates.data[place(i)];
  gate_count_ += static_cast<double>(rows * width);
}

HeadMatrix LayerSums::matrix(const Cosines& of) const {
  HeadMatrix all(place(heads_), std::vector<double>(place(heads_), 1.0));
  for (int64_t h = 0; h < heads_; ++h)
    for (int64_t g = h + 1; g < heads_; ++g) {
      const size_t at = place(h * heads_ + g);
      const double mean = of.counts[at] > 0 ? of.sums[at] / of.counts[at]
                                            : std::numeric_limits<double>::quiet_NaN();
      all[place(h)][place(g)] = all[place(g)][place(h)] = mean;
    }
  return all;
}

LayerHeads LayerSums::result(bool similarity) const {
  LayerHeads layer;
  for (size_t h = 0; h < place(heads_); ++h) {
    HeadNumbers& head = layer.heads.emplace_back();
    head.norm = norms_[h] / tokens_;
    head.sink_score = sink_[h] / sink_queries_;
    head.row_sum = row_sums_[h] / queries_;
    if (gate_count_ > 0) head.gate = gates_[h] / gate_count_;
  }
  if (similarity) {
    layer.map_similarity = matrix(maps_);
    layer.output_similarity = matrix(outputs_);
  }
  layer.sum_error = largest_output_ > 0 ? largest_error_ / largest_output_ : largest_error_;
  return layer;
}

ChangedLoss changed_loss(const std::vector<double>& nats, const std::vector<double>& unchanged,
                         const std::vector<double>& targets) {
  ChangedLoss changed;
  changed.loss = total(nats) / total(targets);
  changed.difference = changed.loss - total(unchanged) / total(targets);
  std::vector<double> own;
  for (size_t b = 0; b < nats.size(); ++b)
    if (targets[b] > 0) own.push_back((nats[b] - unchanged[b]) / targets[b]);
  if (own.size() < 2) return changed;
  const auto count = static_cast<double>(own.size());
  const double mean = total(own) / count;
  double squares = 0;
  for (double one : own) squares += (one - mean) * (one - mean);
  changed.standard_error = std::sqrt(squares / (count - 1) / count);
  return changed;
}

double mean_similarity(const HeadsResult& result, HeadMatrix LayerHeads::* matrix) {
  double sum = 0, layers = 0;
  for (const LayerHeads& layer : result.layers) {
    double own = 0, pairs = 0;
    const HeadMatrix& all = layer.*matrix;
    for (size_t h = 0; h < all.size(); ++h)
      for (size_t g = h + 1; g < all.size(); ++g)
        if (!std::isnan(all[h][g])) own += all[h][g], pairs += 1;
    if (pairs > 0) sum += own / pairs, layers += 1;
  }
  return layers > 0 ? sum / layers : std::numeric_limits<double>::quiet_NaN();
}

int64_t removable_heads(const HeadsResult& result, double share) {
  int64_t count = 0;
  for (const PrunedHead& step : result.curve) {
    if (!(step.loss.loss <= (1 + share) * result.loss)) break;
    ++count;
  }
  return count;
}

}  // namespace weir
