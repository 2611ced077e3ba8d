// Measuring as `weir measure` does it: records against PyTorch in f64, compiled and interpreted,
// in parts and at once, within the memory that is allowed.
#include "lab/measure/measure.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "engine/memory.h"
#include "lab/lab_test_util.h"
#include "lab/reference_model.h"
#include "lab/report/measure_summary.h"
#include "lab/train/trainer.h"

namespace weir {
namespace {

using test::error_of;
using test::ReferenceModel;
using ::testing::HasSubstr;
using Json = nlohmann::json;

struct Case {
  std::string file, record = "";
  int64_t sink = 0;
};
// The name of a test ends with it.
void PrintTo(const Case& c, std::ostream* out) { *out << (c.record.empty() ? c.file : c.record); }

class MeasuredRecord : public ::testing::TestWithParam<Case> {
 protected:
  static void check(ReferenceModel& model, double tolerance) {
    Measurer measurer(model.source, model.batch, model.task);
    int compared = 0;
    test::expect_agree(Json::parse(measurer.measure().record), model.record, tolerance, "record",
                       compared);
    EXPECT_GT(compared, 60);
  }
};

TEST_P(MeasuredRecord, CompiledAgreesWithPyTorch) {
  ReferenceModel model(GetParam().file, GetParam().record, GetParam().sink);
  check(model, 1e-4);
}

TEST_P(MeasuredRecord, InterpretedAgreesWithPyTorch) {
  ReferenceModel model(GetParam().file, GetParam().record, GetParam().sink);
  model.task.run.interpret = true;
  check(model, 1e-9);
}

TEST_P(MeasuredRecord, SequenceBySequenceAgreesWithPyTorch) {
  ReferenceModel model(GetParam().file, GetParam().record, GetParam().sink);
  model.task.run.rows = 1;
  check(model, 1e-4);
}

INSTANTIATE_TEST_SUITE_P(
    Cases, MeasuredRecord,
    ::testing::Values(Case{"llama_base"}, Case{"llama_long"}, Case{"llama_massive"},
                      Case{"llama_odd"}, Case{"llama_odd", "llama_odd_sink3", 3},
                      Case{"llama_single"}, Case{"llama_softmax_1"}, Case{"llama_v_scale_full"},
                      Case{"llama_v_scale_learned"}, Case{"llama_v_scale_backward_only"},
                      Case{"llama_v_scale_forward_only"}),
    [](const auto& info) {
      return (info.param.record.empty() ? info.param.file : info.param.record).substr(6);
    });

TEST(Measurer, GivesTheSameBitsOnOneAndTwoThreads) {
  for (int64_t rows : {0, 1}) {
    ReferenceModel model("llama_massive");
    model.task.run.rows = rows;
    const std::string two = Measurer(model.source, model.batch, model.task).measure().record;
    model.task.run.threads = 1;
    EXPECT_EQ(Measurer(model.source, model.batch, model.task).measure().record, two);
  }
}

TEST(Measurer, MeasuresAgainWithWeightsInPlaceOrReadAnew) {
  for (int64_t rows : {0, 1})
    for (const bool keep_loaded : {false, true}) {
      ReferenceModel model("llama_massive");
      model.task.run.rows = rows;
      model.task.keep_loaded = keep_loaded;
      Measurer measurer(model.source, model.batch, model.task);
      const std::string first = measurer.measure().record;
      EXPECT_EQ(measurer.measure().record, first);
    }
}

TEST(Measurer, KeepsValuesOfFurtherProbesInTheOrderOfTheBatch) {
  ReferenceModel model("llama_base");
  model.task.probes = {"blocks.1.hook_resid_post", "blocks.0.hook_mlp_out.grad : batch_sum",
                       "model.norm.weight"};
  const Tensors whole = Measurer(model.source, model.batch, model.task).measure().kept;
  model.task.run.rows = 1;
  const Tensors parts = Measurer(model.source, model.batch, model.task).measure().kept;
  ASSERT_EQ(whole.size(), 3);
  for (const auto& [id, value] : whole) {
    ASSERT_EQ(parts.at(id).shape(), value.shape()) << id;
    for (size_t i = 0; i < value.data.size(); ++i)
      EXPECT_NEAR(parts.at(id).data[i], value.data[i], 1e-5 + 1e-4 * std::abs(value.data[i])) << id;
  }
  EXPECT_EQ(whole.at("model.norm.weight:raw").data, model.tensors.at("model.norm.weight").data);
}

// A model whose activations, not its weights, are large.
struct LongModel {
  ModelConfig config{.name = "long",
                     .layers = 2,
                     .d_model = 64,
                     .heads = 2,
                     .d_head = 32,
                     .d_ff = 160,
                     .vocabulary = 50};
  ModelSource source;
  TokenBatch batch;
  MeasureTask task;
  explicit LongModel(int64_t B = 12, int64_t T = 1024) {
    source.sizes = {config.name, 2, 64, 2, 2, 32, 160, 50, 0};
    source.build = [this](int64_t rows, int64_t length) {
      return build_llama(config, rows, length);
    };
    source.read = [](const Parameter& parameter, float* out) {
      initialise_parameter(parameter, 5, out);
    };
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < B * (T + 1); ++i) ids.push_back(static_cast<int32_t>(i * i % 49));
    batch = token_batch(B, T, ids);
    task.run.cache = WEIR_TEST_CACHE "/objects";
    task.run.threads = 1;
  }
};

TEST(Measurer, StatesAndKeepsItsMemory) {
  LongModel model;
  const int64_t whole = Measurer(model.source, model.batch, model.task).run().memory().arena;
  ASSERT_GT(whole, int64_t{60} << 20);
  const MemoryPeak all = Measurer(model.source, model.batch, model.task).run().memory();
  model.task.run.memory = all.running() - whole / 2;
  Measurer measurer(model.source, model.batch, model.task);
  EXPECT_GT(measurer.run().parts(), 1);
  EXPECT_LT(measurer.run().parts(), 12);
  EXPECT_LE(measurer.run().memory().needed(), model.task.run.memory);
  measurer.measure();
#if !defined(__SANITIZE_THREAD__)  // whose record of accesses to memory is resident, too
  EXPECT_LE(peak_resident_memory(), measurer.run().memory().total());
#endif
}

TEST(Measurer, RefusesWhatDoesNotFit) {
  LongModel model;
  model.task.run.memory = int64_t{1} << 20;
  const std::string text = error_of([&] { Measurer(model.source, model.batch, model.task); });
  EXPECT_THAT(text, HasSubstr("[measure] 1 sequence of 1024 tokens at a time needs "));
  EXPECT_THAT(text, HasSubstr("but only 1.0 MiB may be used. Allow more (--memory "));
  EXPECT_THAT(text, HasSubstr("MiB), or take shorter sequences."));
}

TEST(Measurer, RefusesASinkOutsideOfTheSequences) {
  ReferenceModel model("llama_odd");
  model.task.metrics.sink_token = 13;
  EXPECT_EQ(error_of([&] { Measurer(model.source, model.batch, model.task); }),
            "[measure] the sink token 13 is not one of the 13 of a sequence.");
}

// A map of a long sequence has the means of the whole pattern.
TEST(Measurer, MapsOfLongSequencesAreMeansOfTheirCells) {
  LongModel model(1, 300);
  const AttentionMap map = attention_maps(model.source, model.batch, model.task, {{1, 1}}).front();
  ASSERT_EQ(map.cells.count(), 158);
  EXPECT_EQ(map.cells.single, 16);
  EXPECT_EQ(map.cells.width, 2);
  model.task.probes = {"blocks.1.attn.hook_pattern : slice(head,1,2)"};
  const Tensors kept = Measurer(model.source, model.batch, model.task).measure().kept;
  const HostTensor& pattern = kept.begin()->second;
  for (int64_t q : {0, 5, 15, 16, 100, 157})
    for (int64_t k : {0, 5, 15, 16, 100, 157}) {
      double sum = 0, pairs = 0;
      for (int64_t t = map.cells.start(q); t < map.cells.start(q + 1); ++t)
        for (int64_t s = map.cells.start(k); s < map.cells.start(k + 1); ++s)
          if (s <= t) sum += pattern.at({0, 0, t, s}), ++pairs;
      EXPECT_NEAR(map.weights.at({0, 0, q, k}), pairs > 0 ? sum / pairs : 0, 1e-6)
          << q << ", " << k;
    }
}

TEST(Measurer, MisuseIsAUserError) {
  ReferenceModel model("llama_base");
  ModelRun run(model.source, {.batch = model.batch.batch, .length = model.batch.length},
               model.task.run);
  EXPECT_EQ(error_of([&] { run.run(model.batch); }),
            "[measure] the weights are not in memory. Call load() before run().");
  run.load();
  TokenBatch wrong = model.batch;
  wrong.tokens[1] = 1'000'000;
  EXPECT_THAT(error_of([&] { run.run(wrong); }),
              HasSubstr("token 1000000 at 1 is outside of the vocabulary of "));
  wrong = model.batch;
  wrong.targets.pop_back();
  EXPECT_THAT(error_of([&] { run.run(wrong); }), HasSubstr(" targets are given, but "));
  wrong = model.batch;
  ++wrong.length;
  EXPECT_THAT(error_of([&] { run.run(wrong); }), HasSubstr("tokens is given to programs of "));
  EXPECT_THAT(error_of([&] { ModelRun(model.source, {.batch = 0}, model.task.run); }),
              HasSubstr("a batch of 0 x 1 tokens is asked for, but at least 1 x 1 is needed."));
  EXPECT_THAT(error_of([&] { token_batch(2, 3, std::vector<int32_t>(7)); }),
              HasSubstr("7 ids are given for 2 sequences of 3, but 8 are needed"));
}

TEST(Measurer, FindsTheHeaviestKeyAndItsMaps) {
  ReferenceModel model("llama_base");
  const int64_t T = model.batch.length;
  EXPECT_THAT(error_of([&] { attention_maps(model.source, model.batch, model.task, {{9, 0}}); }),
              HasSubstr("there is no head 9.0: the model has layers 0.."));
  std::vector<double> mass(static_cast<size_t>(T), 0);
  for (int64_t l = 0; l < model.source.sizes.layers; ++l)
    for (int64_t h = 0; h < model.source.sizes.heads; ++h) {
      const auto maps = attention_maps(model.source, model.batch, model.task, {{l, h}});
      ASSERT_EQ(maps.size(), 1);
      for (int64_t t = 0; t < T; ++t) {
        double row = 0;
        for (int64_t s = 0; s < T; ++s) {
          const double weight = maps[0].weights.at({0, 0, t, s});
          row += weight;
          EXPECT_TRUE(s <= t || weight == 0) << t << ", " << s;
        }
        EXPECT_NEAR(row, 1, 1e-5);
      }
    }
  // All sequences of the batch count, so the maps of the first alone do not decide.
  model.task.probes = {"blocks.*.attn.hook_pattern : column_mass, mean(batch,head)"};
  for (const auto& [id, value] : Measurer(model.source, model.batch, model.task).measure().kept)
    for (size_t s = 0; s < mass.size(); ++s) mass[s] += value.data[s];
  const auto heaviest = std::max_element(mass.begin(), mass.end()) - mass.begin();
  EXPECT_EQ(heaviest_key(model.source, model.batch, model.task), heaviest);
}

TEST(MeasureTable, HasARowALayer) {
  ReferenceModel model("llama_massive");
  const std::string table = measure_table(model.record.dump());
  EXPECT_THAT(table, HasSubstr("layer  sink rate  sink mass  largest head"));
  EXPECT_THAT(table, HasSubstr(" at token "));
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 1 + 3 + 3);
}

}  // namespace
}  // namespace weir
