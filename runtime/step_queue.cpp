#include "runtime/step_queue.h"

#include <immintrin.h>

#include <algorithm>
#include <chrono>

#include "runtime/threads.h"

namespace weir {
namespace {

/// Bytes of one buffer, or of the arena, that a step touches.
struct Touched {
  BufferRef::Kind kind;
  int64_t input;
  int64_t begin, end;
  bool written;
};

Touched touched(const BufferRef& base, int64_t offset, int64_t bytes, bool written) {
  const bool arena = base.kind == BufferRef::Kind::arena;
  const int64_t begin = offset + (arena ? base.at : 0);
  return {base.kind, arena ? 0 : base.at, begin, begin + bytes, written};
}

std::vector<Touched> touched_by(const ProgramCode& code, const Step& step) {
  std::vector<Touched> all;
  if (step.kind == Step::Kind::probe) {
    const ProbeCall& probe = code.probes[step.index];
    all.push_back(touched(probe.buffer, 0, probe.bytes, false));
  } else {
    for (const CallBuffer& buffer : code.kernels[step.index].buffers)
      all.push_back(touched(buffer.base, buffer.offset, buffer.bytes, buffer.written));
  }
  return all;
}

bool collide(const std::vector<Touched>& a, const std::vector<Touched>& b) {
  for (const Touched& x : a)
    for (const Touched& y : b)
      if ((x.written || y.written) && x.kind == y.kind && x.input == y.input && x.begin < y.end &&
          y.begin < x.end)
        return true;
  return false;
}

}  // namespace

std::vector<std::vector<int32_t>> order_of_steps(const ProgramCode& code) {
  std::vector<std::vector<int32_t>> after;
  std::vector<std::vector<Touched>> memory;
  int32_t last_probe = -1;
  for (int32_t i = 0; i < static_cast<int32_t>(code.steps.size()); ++i) {
    const Step& step = code.steps[i];
    memory.push_back(touched_by(code, step));
    after.emplace_back();
    const bool probe = step.kind == Step::Kind::probe;
    for (int32_t j = std::max(i - kStepsAhead, 0); j < i; ++j)
      if ((probe && j == last_probe) || collide(memory[i], memory[j])) after.back().push_back(j);
    if (probe) last_probe = i;
  }
  return after;
}

StepQueue::StepQueue(const ProgramCode& code, const std::vector<void*>& inputs,
                     const Workspace& workspace, int workers, const ProbeSink& probe_sink)
    : code_(code), workspace_(workspace), probe_sink_(probe_sink) {
  for (const Step& step : code.steps) {
    State state;
    if (step.kind == Step::Kind::probe) {
      state.tiles = probe_sink ? 1 : 0;
      state.buffers.push_back(address_of(code.probes[step.index].buffer, inputs, workspace));
    } else {
      const KernelCall& call = code.kernels[step.index];
      state.tiles = call.tiles;
      state.chunk = tiles_at_once(call.tiles, workers);
      state.buffers = buffers_of(call, inputs, workspace);
    }
    state.left = state.tiles;
    states_.push_back(std::move(state));
  }
}

void StepQueue::work(int worker) {
  for (;;) {
    const uint64_t seen = changes_.load(std::memory_order_acquire);
    Piece piece;
    switch (take(piece)) {
      case Taken::piece:
        run(piece, worker);
        finish(piece);
        break;
      case Taken::nothing_yet:
        wait_for_change(seen);
        break;
      case Taken::end:
        return;
    }
  }
}

bool StepQueue::may_start(int32_t step) const {
  return std::all_of(code_.after[step].begin(), code_.after[step].end(),
                     [this](int32_t before) { return states_[before].left == 0; });
}

StepQueue::Taken StepQueue::take(Piece& piece) {
  const std::lock_guard lock(mutex_);
  const auto steps = static_cast<int32_t>(states_.size());
  while (front_ < steps && states_[front_].left == 0) ++front_;
  if (failure_ || front_ == steps) return Taken::end;
  const int32_t end = std::min(front_ + kStepsAhead, steps);
  for (int32_t i = front_; i < end; ++i) {
    State& state = states_[i];
    if (state.next == state.tiles) continue;
    const bool probe = code_.steps[i].kind == Step::Kind::probe;
    if (probe && std::this_thread::get_id() != owner_) continue;
    if (!may_start(i)) continue;
    piece = {i, state.next, std::min(state.next + state.chunk, state.tiles)};
    state.next = piece.last;
    return Taken::piece;
  }
  return Taken::nothing_yet;
}

void StepQueue::run(const Piece& piece, int worker) {
  const Step& step = code_.steps[piece.step];
  const State& state = states_[piece.step];
  if (step.kind == Step::Kind::kernel) {
    code_.kernels[step.index].function(state.buffers.data(), piece.first, piece.last,
                                       workspace_.scratch(worker));
    return;
  }
  try {
    probe_sink_(code_.probes[step.index].probe, state.buffers[0]);
  } catch (...) {
    const std::lock_guard lock(mutex_);
    failure_ = std::current_exception();
  }
}

void StepQueue::finish(const Piece& piece) {
  {
    const std::lock_guard lock(mutex_);
    State& state = states_[piece.step];
    state.left -= piece.last - piece.first;
    if (state.left > 0) return;
  }
  changes_.fetch_add(1, std::memory_order_release);
  changes_.notify_all();
}

// Kernels are short, and to be woken takes as long as some of them: it pays to look for a while.
void StepQueue::wait_for_change(uint64_t seen) const {
  using Clock = std::chrono::steady_clock;
  constexpr auto patience = std::chrono::microseconds(200);
  const auto end = Clock::now() + patience;
  while (Clock::now() < end) {
    for (int i = 0; i < 16; ++i) {
      if (changes_.load(std::memory_order_acquire) != seen) return;
      _mm_pause();
    }
  }
  changes_.wait(seen, std::memory_order_acquire);
}

void StepQueue::rethrow() const {
  if (failure_) std::rethrow_exception(failure_);
}

}  // namespace weir
