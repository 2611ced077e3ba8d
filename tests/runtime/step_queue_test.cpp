#include "runtime/step_queue.h"

#include <gmock/gmock.h>

#include <chrono>
#include <random>
#include <stdexcept>
#include <thread>

#include "runtime/run_program.h"

namespace weir {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr int64_t kTile = 16;  // numbers of a tile
constexpr int64_t kSlotBytes = 4 * kTile * 24;

CallBuffer slot(int64_t i, bool written = false) {
  return {{BufferRef::Kind::arena, i * kSlotBytes}, 0, kSlotBytes, written};
}
CallBuffer input(int64_t i, bool written = false) {
  return {{BufferRef::Kind::input, i}, 0, kSlotBytes, written};
}

// out = 3 a + 5 b + 1, element by element; what it gives depends on the order of such steps.
void combine(void* const* buffers, int64_t first, int64_t last, void*) {
  const auto *a = static_cast<const uint32_t*>(buffers[0]),
             *b = static_cast<const uint32_t*>(buffers[1]);
  auto* out = static_cast<uint32_t*>(buffers[2]);
  for (int64_t i = first * kTile; i < last * kTile; ++i) out[i] = 3 * a[i] + 5 * b[i] + 1;
}

class Maker {
 public:
  Maker& kernel(std::vector<CallBuffer> buffers, int64_t tiles = 24, weir_kernel code = combine) {
    step(Step::Kind::kernel, code_.kernels.size());
    code_.kernels.push_back({"kernel", code, std::move(buffers), tiles});
    return *this;
  }
  Maker& probe(const CallBuffer& buffer) {
    const auto index = static_cast<int32_t>(code_.probes.size());
    step(Step::Kind::probe, code_.probes.size());
    code_.probes.push_back({index, buffer.base, buffer.bytes});
    return *this;
  }
  ProgramCode make(int64_t slots = 16, int64_t inputs = 2) {
    code_.arena_bytes = slots * kSlotBytes;
    code_.inputs = inputs;
    code_.after = order_of_steps(code_);
    return code_;
  }

 private:
  void step(Step::Kind kind, size_t index) {
    code_.steps.push_back({kind, static_cast<int32_t>(index)});
  }
  ProgramCode code_;
};

TEST(OrderOfSteps, WhoWritesWhatIsTouchedComesBefore) {
  CallBuffer half = slot(0, true), other_half = slot(0);
  half.bytes = kSlotBytes / 2;
  other_half.offset = other_half.bytes = kSlotBytes / 2;
  const ProgramCode code =
      Maker()
          .kernel({input(0), input(0), half})            // 0
          .kernel({input(0), input(1), slot(1, true)})   // 1: reads what 0 reads
          .kernel({slot(1), slot(1), slot(2, true)})     // 2: reads 1's
          .kernel({other_half, slot(1), slot(3, true)})  // 3: not 0's half
          .kernel({input(1), input(1), slot(1, true)})   // 4: over 1's, read by 2, 3
          .kernel({slot(0), slot(3), input(0, true)})    // 5: reads 0's, over input
          .make();
  EXPECT_THAT(code.after[0], IsEmpty());
  EXPECT_THAT(code.after[1], IsEmpty());
  EXPECT_THAT(code.after[2], ElementsAre(1));
  EXPECT_THAT(code.after[3], ElementsAre(1));
  EXPECT_THAT(code.after[4], ElementsAre(1, 2, 3));
  EXPECT_THAT(code.after[5], ElementsAre(0, 1, 3));
}

TEST(OrderOfSteps, ProbesKeepTheirOrderAndTheirValue) {
  const ProgramCode code = Maker()
                               .kernel({input(0), input(0), slot(0, true)})
                               .probe(input(1))
                               .probe(slot(0))
                               .kernel({input(1), input(1), slot(0, true)})
                               .make();
  EXPECT_THAT(code.after[1], IsEmpty());
  EXPECT_THAT(code.after[2], ElementsAre(0, 1));
  EXPECT_THAT(code.after[3], ElementsAre(0, 2));
}

struct Ran {
  std::vector<uint32_t> memory;
  std::vector<uint32_t> probed;
  bool operator==(const Ran&) const = default;
};

Ran run(const ProgramCode& code, int workers, bool one_by_one) {
  std::vector<Buffer> buffers;
  std::vector<void*> inputs;
  for (int64_t i = 0; i < code.inputs; ++i) {
    buffers.emplace_back(static_cast<size_t>(kSlotBytes));
    inputs.push_back(buffers.back().data());
    for (uint32_t& x : buffers.back().as<uint32_t>()) x = static_cast<uint32_t>(7 * i + 1);
  }
  Workspace workspace;
  Ran ran;
  const ProbeSink probes = [&](int32_t probe, const void* data) {
    ran.probed.push_back(static_cast<uint32_t>(probe));
    ran.probed.push_back(*static_cast<const uint32_t*>(data));
  };
  const ProfileSink profile = [](const KernelCall&, double) {};
  run_program(code, inputs, workspace, Workers(workers), probes,
              one_by_one ? profile : ProfileSink());
  const auto* arena = reinterpret_cast<const uint32_t*>(workspace.arena());
  ran.memory.assign(arena, arena + code.arena_bytes / 4);
  for (const Buffer& buffer : buffers)
    ran.memory.insert(ran.memory.end(), buffer.as<uint32_t>().begin(), buffer.as<uint32_t>().end());
  return ran;
}

TEST(StepQueue, GivesWhatOneStepAfterTheOtherGives) {
  std::mt19937 random(5);
  const auto below = [&](int64_t n) { return static_cast<int64_t>(random() % n); };
  for (int round = 0; round < 60; ++round) {
    Maker maker;
    const int64_t slots = 3 + below(12);
    for (int step = 0; step < 80; ++step) {
      if (below(6) == 0) {
        maker.probe(slot(below(slots)));
        continue;
      }
      const auto operand = [&] { return below(5) == 0 ? input(below(2)) : slot(below(slots)); };
      CallBuffer out = below(12) == 0 ? input(below(2)) : slot(below(slots));
      out.written = true;  // over an operand, too: element by element
      maker.kernel({operand(), operand(), out}, 1 + below(24));
    }
    const ProgramCode code = maker.make(slots);
    const Ran expected = run(code, 1, true);
    for (const int workers : {1, 2, 4}) EXPECT_EQ(run(code, workers, false), expected);
  }
}

// Two kernels of one tile that end only when both have started.
std::atomic<int> started = 0;
void meet(void* const*, int64_t, int64_t, void*) {
  ++started;
  const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(2);
  while (started % 2 != 0 && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  if (started % 2 != 0) started = -1000;
}

TEST(StepQueue, StepsThatShareNothingRunAtTheSameTime) {
  const ProgramCode code = Maker()
                               .kernel({input(0), slot(0, true)}, 1, meet)
                               .kernel({input(0), slot(1, true)}, 1, meet)
                               .make();
  started = 0;
  run(code, 2, false);
  EXPECT_EQ(started, 2);
}

TEST(StepQueue, WhatAProbeSinkThrowsReachesTheCaller) {
  Maker maker;
  for (int i = 0; i < 50; ++i)
    maker.kernel({slot(i % 7), slot(i % 5), slot(i % 11, true)}).probe(slot(i % 11));
  const ProgramCode code = maker.make();
  std::vector<Buffer> buffers(2);
  std::vector<void*> inputs;
  for (Buffer& buffer : buffers) {
    buffer = Buffer(static_cast<size_t>(kSlotBytes));
    inputs.push_back(buffer.data());
  }
  Workspace workspace;
  const Workers workers(3);
  const auto caller = std::this_thread::get_id();
  int last = -1;
  const ProbeSink failing = [&](int32_t probe, const void*) {
    EXPECT_EQ(std::this_thread::get_id(), caller);
    last = probe;
    if (probe == 20) throw std::runtime_error("disk full");
  };
  EXPECT_THROW(run_program(code, inputs, workspace, workers, failing), std::runtime_error);
  EXPECT_EQ(last, 20);
  run_program(code, inputs, workspace, workers, [&](int32_t probe, const void*) { last = probe; });
  EXPECT_EQ(last, 49);
}

}  // namespace
}  // namespace weir
