// One arm's steps: the same bits whatever is probed and however many threads there are.
// interventions_test.cpp has them beside the interpreter.
#include "lab/train/trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>

#include "codegen/llvm/object_cache.h"
#include "codegen/matmul/tile_table.h"
#include "interpret/interpret.h"
#include "lab/lab_test_util.h"
#include "lab/train/compile_time.h"
#include "lab/train/data.h"

namespace weir {
namespace {

using test::tiny_run;

const test::TestCache cache;

struct Trained {
  std::vector<double> losses;
  std::string weights;  ///< all bytes
};

Trained run_steps(RunConfig config, int64_t steps, bool probed,
                  const std::string& cache = default_object_cache()) {
  auto source = make_batches(config.data, config.seed);
  config = resolve_vocabulary(config, *source);
  Trainer trainer(config, *source, {.cache = cache}, probed);
  trainer.initialise();
  Trained result;
  for (int64_t step = 0; step < steps; ++step) {
    Tensors values;
    StepResult done = probed ? trainer.measured_step(step, values) : trainer.step(step);
    result.losses.push_back(done.loss);
    if (probed) {
      EXPECT_FALSE(values.empty());
    }
  }
  for (const StateArray& array : trainer.weights())
    result.weights.append(static_cast<const char*>(array.data),
                          static_cast<size_t>(array.type.bytes()));
  return result;
}

TEST(Trainer, AnUpdateThatIsNotFiniteIsLeftOut) {
  for (const char* parts : {"micro_batches=1", "micro_batches=2"})
    for (const char* kind : {"optimizer.kind=adamw", "optimizer.kind=sgd", "optimizer.kind=muon"}) {
      RunConfig config = tiny_run("unused", {parts, kind});
      auto source = make_batches(config.data, config.seed);
      config = resolve_vocabulary(config, *source);
      Trainer trainer(config, *source, {.cache = default_object_cache()}, false);
      trainer.initialise();
      trainer.step(0);
      std::vector<StateArray> arrays = trainer.weights();
      const std::vector<StateArray> moments = trainer.optimizer_state();
      arrays.insert(arrays.end(), moments.begin(), moments.end());
      float& poisoned = static_cast<float*>(arrays[1].data)[5];
      const float good = poisoned;
      poisoned = std::numeric_limits<float>::quiet_NaN();
      const auto bytes = [&] {
        std::string text;
        for (const StateArray& array : arrays)
          text.append(static_cast<const char*>(array.data),
                      static_cast<size_t>(array.type.bytes()));
        return text;
      };
      const std::string before = bytes();
      EXPECT_TRUE(std::isnan(trainer.step(1).loss));
      EXPECT_TRUE(bytes() == before) << parts << " " << kind;
      poisoned = good;
      EXPECT_TRUE(std::isfinite(trainer.step(1).loss));
      EXPECT_FALSE(bytes() == before);
    }
}

class SameBits : public ::testing::TestWithParam<const char*> {};

TEST_P(SameBits, WithProbesAndWithout) {
  RunConfig config = tiny_run("unused", {GetParam(), "v_scale.variant=full"});
  config.measure.probes = {"blocks.*.attn.hook_v.grad : batch_sum",
                           "blocks.*.mlp.hook_post : max(feature), mean(batch)",
                           "blocks.*.hook_resid_mid"};
  config.threads = 1;
  Trained plain = run_steps(config, 20, false);
  Trained probed = run_steps(config, 20, true);
  EXPECT_EQ(plain.losses, probed.losses);
  EXPECT_TRUE(plain.weights == probed.weights);
  config.threads = 2;
  Trained threads = run_steps(config, 20, true);
  EXPECT_EQ(plain.losses, threads.losses);
  EXPECT_TRUE(plain.weights == threads.weights);
}

INSTANTIATE_TEST_SUITE_P(MicroBatches, SameBits,
                         ::testing::Values("micro_batches=1", "micro_batches=2"),
                         [](const auto& info) {
                           return std::string(info.param).replace(13, 1, "_");
                         });

// A run on a text with a tenth held out, for a test of validation.
RunConfig validated_run(const test::TemporaryFolder& folder, const std::string& word) {
  std::ofstream text(folder / "a.txt");
  for (int i = 0; i < 3000; ++i) text << static_cast<char>('a' + i * i % 17);
  text.close();
  return tiny_run(
      "unused", {"data.kind=text", "data.files=" + folder / "a.txt", "data.validation=0.1", word});
}

class Validation : public ::testing::TestWithParam<const char*> {};

TEST_P(Validation, IsTheMeanLossAndChangesNoBit) {
  const test::TemporaryFolder folder;
  RunConfig config = validated_run(folder, GetParam());
  const RunData data = make_run_data(config.data, config.seed);
  config = resolve_vocabulary(config, *data.training);
  const auto weights = [](Trainer& trainer) {
    std::string all;
    for (const StateArray& array : trainer.weights())
      all.append(static_cast<const char*>(array.data), static_cast<size_t>(array.type.bytes()));
    return all;
  };
  RunConfig plain = config;
  plain.data.validation.clear();  // the same training text, and no program for validation
  Trainer without(plain, *data.training, {.cache = default_object_cache()}, false);
  Trainer with(config, *data.training, {.cache = default_object_cache()}, false);
  without.initialise();
  with.initialise();
  double first = 0;
  for (int64_t step = 0; step < 4; ++step) {
    const double loss = with.validate(*data.validation, 5).loss;
    if (step == 0) first = loss;
    EXPECT_EQ(loss, with.validate(*data.validation, 5).loss) << "the same bits twice";
    EXPECT_EQ(without.step(step).loss, with.step(step).loss);
  }
  EXPECT_TRUE(weights(without) == weights(with));
  // The mean of the losses that a step states for each sequence alone, at the start.
  RunConfig single = plain;
  single.batch = single.micro_batches = 1;
  double sum = 0;
  for (int64_t sequence = 0; sequence < 5; ++sequence) {
    Trainer one(single, *data.validation, {.cache = default_object_cache()}, false);
    one.initialise();
    sum += one.step(sequence).loss;
  }
  EXPECT_NEAR(first, sum / 5, 1e-5);
}

// Of recall the loss and the share recalled are those of the answers of held-out sequences, and
// both training losses, of answers and of all targets, go with the same validation.
TEST_P(Validation, OfRecallTellsWhatIsRecalled) {
  const std::vector<std::string> words = {"data.kind=recall",    "data.pairs=2",  "data.queries=2",
                                          "data.keys=3",         "data.values=2", "length=12",
                                          "optimizer.rate=0.01", "steps=60",      GetParam()};
  RunConfig config = tiny_run("unused", words);
  const RunData data = make_run_data(config.data, config.seed);
  ASSERT_TRUE(data.validation);
  config = resolve_vocabulary(config, *data.training);
  Trainer trainer(config, *data.training, {.cache = default_object_cache()}, false);
  trainer.initialise();
  const ValidationResult before = trainer.validate(*data.validation, 50);
  EXPECT_EQ(before.targets, 100);
  ASSERT_TRUE(before.recalled);
  EXPECT_LT(*before.recalled, 0.4) << "of two values among nine tokens";
  for (int64_t step = 0; step < 60; ++step) trainer.step(step);
  const ValidationResult after = trainer.validate(*data.validation, 50);
  EXPECT_LT(after.loss, 1);
  EXPECT_GT(*after.recalled, 0.4) << "at least that it is one of two values is learned";
  EXPECT_LE(*after.recalled, 1);
  EXPECT_EQ(after.recalled, trainer.validate(*data.validation, 50).recalled);
  // As many sequences, one after the other: padding of a part counts nowhere.
  const ValidationResult one = trainer.validate(*data.validation, 1);
  EXPECT_EQ(one.targets, 2);
  EXPECT_EQ(std::fmod(2 * *one.recalled, 1), 0);
  config.data.targets = "all";
  EXPECT_EQ(make_run_data(config.data, config.seed).validation->facts().what,
            data.validation->facts().what);
}

INSTANTIATE_TEST_SUITE_P(MicroBatches, Validation,
                         ::testing::Values("micro_batches=1", "micro_batches=2"),
                         [](const auto& info) {
                           return std::string(info.param).replace(13, 1, "_");
                         });

TEST(Trainer, TunedTilesChangeNoBit) {
  const RunConfig config = tiny_run("unused", {"v_scale.variant=full", "micro_batches=2"});
  const Trained usual = run_steps(config, 5, true);
  test::TemporaryFolder folder;
  auto source = make_batches(config.data, config.seed);
  const Target& target = host_target();
  TileTable table;
  for (const MatmulSpec& product :
       products_of(planned_step(resolve_vocabulary(config, *source), target, true), target))
    table.set(product, {2, 1, 4, 2 * target.lanes(), target.lanes(),
                        product.m % 2 == 0 ? BPacking::prepacked : BPacking::packed, true, 1});
  EXPECT_GT(table.size(), 5u);
  const std::string cache = folder / "objects";
  std::filesystem::create_directory(cache);
  table.save(cache, target);
  const Trained tuned = run_steps(config, 5, true, cache);
  EXPECT_EQ(usual.losses, tuned.losses);
  EXPECT_TRUE(usual.weights == tuned.weights);
}

TEST(Trainer, ALimitOfMemoryIsKeptAndChangesNoBit) {
  RunConfig config =
      tiny_run("unused", {"model.layers=6", "model.d_model=64", "model.d_ff=256", "length=256"});
  auto source = make_batches(config.data, config.seed);
  config = resolve_vocabulary(config, *source);
  config.threads = 1;
  const auto peak = [&](const RunConfig& run) {
    return Trainer(run, *source, {.cache = default_object_cache()}, false).memory();
  };
  peak(config);  // so that nothing is to be compiled
  RunConfig limited = config;
  const MemoryPeak whole = peak(config);
  const int64_t limit = whole.running() - whole.arena / 2;
  limited.memory = std::to_string(limit) + "B";
  EXPECT_LE(peak(limited).needed(), limit);
  const Trained free = run_steps(config, 3, false), repeated = run_steps(limited, 3, false);
  EXPECT_EQ(free.losses, repeated.losses);
  EXPECT_TRUE(free.weights == repeated.weights);
  limited.memory = "1KiB";
  const std::string text = test::error_of([&] { peak(limited); });
  EXPECT_THAT(text, ::testing::HasSubstr("[train] the run needs "));
  EXPECT_THAT(text, ::testing::HasSubstr("but 1.0 KiB of memory may be used (memory). Allow more "
                                         "(memory="));
}

TEST(Trainer, MeasuringLeavesTheStateAsItWas) {
  RunConfig config = tiny_run("unused");
  auto source = make_batches(config.data, config.seed);
  config = resolve_vocabulary(config, *source);
  Trainer trainer(config, *source, {.cache = default_object_cache()}, true);
  trainer.initialise();
  auto bytes = [&] {
    std::string all;
    for (const auto& arrays : {trainer.weights(), trainer.optimizer_state()})
      for (const StateArray& array : arrays)
        all.append(static_cast<const char*>(array.data), static_cast<size_t>(array.type.bytes()));
    return all;
  };
  const std::string before = bytes();
  Tensors values, again;
  const double loss =
      trainer.measure(0, [&](const ProbeValue& value) { values[value.id] = value.host(); }).loss;
  EXPECT_TRUE(bytes() == before);
  EXPECT_EQ(trainer.measured_step(0, again).loss, loss);
  EXPECT_EQ(values, again);
  EXPECT_FALSE(bytes() == before);
  EXPECT_NEAR(loss, std::log(10.0), 0.05) << "an untrained model knows nothing";
}

TEST(Trainer, MisuseIsAUserError) {
  RunConfig config = tiny_run("unused");
  auto source = make_batches(config.data, config.seed);
  config = resolve_vocabulary(config, *source);
  Trainer trainer(config, *source, {.cache = default_object_cache()}, false);
  trainer.initialise();
  Tensors values;
  EXPECT_EQ(test::error_of([&] { trainer.measured_step(0, values); }),
            "[train] a step cannot be measured: the trainer was made without probes. Make it with "
            "measured = true and something to measure.");
  EXPECT_EQ(test::error_of([&] { trainer.step(-1); }),
            "[train] step -1 is asked for, but steps count from 0.");
}

TEST(Trainer, AWeightStartsTheSameWhateverElseThereIs) {
  Parameter a{"a.weight", f32({3, 4}), Initial::normal, 0.02, true};
  std::vector<float> one(12), two(12), other(12);
  initialise_parameter(a, 7, one.data());
  initialise_parameter(a, 7, two.data());
  EXPECT_EQ(one, two);
  initialise_parameter(a, 8, other.data());
  EXPECT_NE(one, other);
  a.name = "b.weight";
  initialise_parameter(a, 7, other.data());
  EXPECT_NE(one, other);
  Parameter large{"c", f32({100, 100}), Initial::normal, 0.02, true};
  std::vector<float> many(10000);
  initialise_parameter(large, 1, many.data());
  double squares = 0;
  for (float value : many) squares += value * value;
  EXPECT_NEAR(std::sqrt(squares / 10000), 0.02, 0.0005);
}

}  // namespace
}  // namespace weir
