// Values of probes as safetensors: names, element types, metadata, and what others read.
#include "lab/measure/probe_tensors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "io/safetensors.h"
#include "testing/error_of.h"
#include "testing/peers.h"
#include "testing/temporary_folder.h"

namespace weir {
namespace {

using nlohmann::json;

const char* const kRecord = R"({"format":"weir.measure/1","provenance":{"command":"weir measure"},)"
                            R"("model":{"name":"m","layers":1},"tokens":{"batch":2,"length":3},)"
                            R"("settings":{"sink_token":0},"loss":"NaN","layers":[],"summary":{}})";

Tensors sample() {
  HostTensor values = zeros(f32({2, 3}));
  // A third, which is rounded; numbers that bf16 and f16 have; what is not finite.
  values.data = {1.0 / 3, -2, 0, 1.0078125, INFINITY, NAN};
  return {{"blocks.0.attn.hook_v:raw", values},
          {"blocks.0.attn.hook_v.grad:batch_sum,norm(feature)", zeros(f32({3}))},
          {"hook_embed:norm(feature)", filled(f32({2}), 0.5)},
          {"hook_embed:mean(token)", filled(f32({}), 3)}};
}

const std::vector<std::string> kNames = {"blocks.0.attn.hook_v", "blocks.0.attn.hook_v.grad",
                                         "hook_embed:mean(token)", "hook_embed:norm(feature)"};

TEST(ProbeTensors, AreCalledAsTheirHooks) {
  test::TemporaryFolder folder;
  for (const FileDtype dtype : {FileDtype::f32, FileDtype::f16, FileDtype::bf16}) {
    write_probe_tensors(folder / "p.safetensors", sample(), dtype, kRecord);
    const SafetensorsFile file(folder / "p.safetensors");
    std::vector<std::string> names;
    for (const SafetensorsEntry& entry : file.entries()) {
      names.push_back(entry.name);
      EXPECT_EQ(entry.dtype, dtype);
    }
    std::sort(names.begin(), names.end());
    EXPECT_EQ(names, kNames);
    EXPECT_EQ(file.at("blocks.0.attn.hook_v").shape, (std::vector<int64_t>{2, 3}));
    const std::vector<float> values = file.to_f32("blocks.0.attn.hook_v");
    const float third = dtype == FileDtype::f32   ? 1.0F / 3
                        : dtype == FileDtype::f16 ? f16_to_f32(f32_to_f16(1.0F / 3))
                                                  : bf16_to_f32(f32_to_bf16(1.0F / 3));
    EXPECT_EQ(values[0], third);
    EXPECT_EQ(values[1], -2);
    EXPECT_EQ(values[3], 1.0078125F);
    EXPECT_TRUE(std::isinf(values[4]) && std::isnan(values[5]));
    EXPECT_EQ(file.to_f32("hook_embed:mean(token)"), std::vector<float>{3});
    EXPECT_EQ(file.metadata().at("format"), kProbeTensorsFormat);
    EXPECT_EQ(json::parse(file.metadata().at("settings"))["sink_token"], 0);
    EXPECT_EQ(json::parse(file.metadata().at("tokens"))["length"], 3);
    EXPECT_EQ(file.metadata().at("loss"), "\"NaN\"");
    EXPECT_EQ(json::parse(file.metadata().at("provenance"))["command"], "weir measure");
    EXPECT_EQ(
        json::parse(file.metadata().at("probes"))["blocks.0.attn.hook_v.grad"],
        (json{{"hook", "blocks.0.attn.hook_v.grad"}, {"reductions", "batch_sum,norm(feature)"}}));
  }
}

TEST(ProbeTensors, AreWrittenWholeOrNotAtAll) {
  test::TemporaryFolder folder;
  std::filesystem::create_directory(folder / "p.safetensors");
  EXPECT_NE(test::error_of([&] {
              write_probe_tensors(folder / "p.safetensors", sample(), FileDtype::f32, kRecord);
            }),
            "no error");
  size_t entries = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder.path()))
    ++entries;
  EXPECT_EQ(entries, 1U) << "nothing but the folder in the way";
}

TEST(ProbeTensors, SafetensorsReadsThem) {
  const std::string python = test::peers_with({"safetensors", "torch"});
  if (python.empty())
    GTEST_SKIP() << "no safetensors and torch in the virtual environment of `make peers`";
  test::TemporaryFolder folder;
  write_probe_tensors(folder / "p.safetensors", sample(), FileDtype::bf16, kRecord);
  const json read = test::ask_peer(python, "read_tensors.py", {folder / "p.safetensors"});
  ASSERT_EQ(read["tensors"].size(), kNames.size());
  for (const std::string& name : kNames)
    EXPECT_EQ(read["tensors"].at(name)["dtype"], "torch.bfloat16");
  EXPECT_EQ(read["tensors"]["blocks.0.attn.hook_v"]["shape"], (json{2, 3}));
  EXPECT_EQ(read["tensors"]["hook_embed:norm(feature)"]["sum"], "1.0");
  EXPECT_EQ(read["tensors"]["blocks.0.attn.hook_v"]["sum"], "nan");
  EXPECT_EQ(read["metadata"]["format"], kProbeTensorsFormat);
}

}  // namespace
}  // namespace weir
