// Every dial against PyTorch in f64, which runs the whole edited model at each setting
// (tests/reference/dials.py).
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "lab/experiments/dial.h"
#include "lab/reference_model.h"

namespace weir {
namespace {

using nlohmann::json;

const json& sweeps() {
  static const json all =
      json::parse(std::ifstream(std::string(WEIR_TEST_DATA) + "/reference/dials.json"));
  return all;
}

/// One sweep of the file: the model, the batch and the dial as Weir has them.
class Sweep {
 public:
  explicit Sweep(const json& sweep) : sweep_(sweep), tensors_(test::read_reference(model())) {
    const json config = test::read_reference_metadata(model()).at("config");
    source_ = test::source_of(test::reference_config(config), tensors_);
    const HostTensor& ids = tensors_.at("tokens");
    const std::vector<int32_t> list(ids.data.begin(), ids.data.end());
    batch_ = token_batch(ids.shape()[0], ids.shape()[1] - 1, list);
    set_dial();
    Rewrites& rewrites = task_.options.rewrites;
    rewrites.v_scale.variant = parse_v_scale_variant(config.at("v_scale").get<std::string>());
    rewrites.v_scale.sigma = config.at("v_scale_sigma").get<double>();
    rewrites.attention = parse_normalizer(config.at("attention").get<std::string>());
    const std::string own = "model.layers.0.self_attn.";
    rewrites.qk_norm = tensors_.contains(own + "qk_norm.query");
    if (const auto gate = tensors_.find(own + "output_gate.weight"); gate != tensors_.end())
      rewrites.attention_gate = gate->second.shape()[0] == source_.sizes.heads
                                    ? AttentionGate::head
                                    : AttentionGate::element;
  }
  Sweep(const Sweep&) = delete;

  json record(bool interpret) const {
    DialTask task = task_;
    task.run.interpret = interpret;
    Dialler dialler(source_, batch_, task);
    const DialResult result = dialler.run();
    return json::parse(dial_record(source_.sizes, batch_, dialler.task(), result));
  }
  const json& expected() const { return sweep_.at("record"); }
  std::string model() const { return sweep_.at("model").get<std::string>(); }
  std::string name() const {
    return fmt::format("{} {} {} {}", model(), sweep_["dial"].get<std::string>(),
                       sweep_["form"].get<std::string>(), sweep_["branch"].get<std::string>());
  }

 private:
  void set_dial() {
    const auto chosen = [&](const char* key, auto last, auto name_of) {
      using Kind = decltype(last);
      for (int i = 0; i <= static_cast<int>(last); ++i)
        if (sweep_.at(key) == name_of(static_cast<Kind>(i))) return static_cast<Kind>(i);
      return Kind{};
    };
    task_.dial = chosen("dial", Dial::mask, dial_name);
    task_.form = chosen("form", DialForm::stream, form_name);
    task_.branch = chosen("branch", DialBranch::mlp, branch_name);
    task_.sink_token = sweep_.at("sink_token").get<int64_t>();
    task_.heads = sweep_.at("heads").get<std::vector<int64_t>>();
    for (const json& value : sweep_.at("values"))
      if (value.is_array())
        task_.values.push_back({value.dump(), 0, value.get<std::vector<int64_t>>()});
      else
        task_.values.push_back({value.dump(), value.get<double>(), {}});
    task_.run.cache = WEIR_TEST_CACHE;
  }

  const json& sweep_;
  Tensors tensors_;
  ModelSource source_;
  TokenBatch batch_;
  DialTask task_;
};

// Of a fit the reference has the exponent and the number of points; intervals have a test of their
// own. Exponents are differences of logarithms, so they are compared apart from the rest.
std::vector<json> take_fits(json& layer) {
  std::vector<json> fits;
  for (const char* upstream : {"frozen", "recomputed"}) {
    if (!layer.contains(upstream)) continue;
    json& sweep = layer[upstream];
    if (sweep.contains("fit")) fits.push_back(sweep["fit"]);
    if (sweep.contains("head_fits"))
      for (const json& fit : sweep["head_fits"]) fits.push_back(fit);
    sweep.erase("fit");
    sweep.erase("head_fits");
  }
  return fits;
}

// How many numbers were compared.
int expect_sweep(const Sweep& sweep, bool interpret) {
  const json actual = sweep.record(interpret);
  const double rtol = interpret ? 1e-9 : 1e-4;
  int compared = 0;
  EXPECT_NEAR(actual["loss"].get<double>(), sweep.expected()["loss"].get<double>(), rtol);
  const json& layers = sweep.expected().at("layers");
  EXPECT_EQ(actual["layers"].size(), layers.size());
  for (size_t l = 0; l < layers.size(); ++l) {
    json have = actual["layers"].at(l), want = layers[l];
    const std::vector<json> fits = take_fits(have), expected = take_fits(want);
    test::expect_agree(have, want, rtol, fmt::format("layer {}", l), compared);
    EXPECT_EQ(fits.size(), expected.size());
    for (size_t i = 0; i < std::min(fits.size(), expected.size()); ++i) {
      EXPECT_EQ(fits[i]["points"], expected[i]["points"]);
      EXPECT_NEAR(fits[i]["exponent"].get<double>(), expected[i]["exponent"].get<double>(),
                  interpret ? 1e-7 : 1e-2)
          << "fit " << i << " of layer " << l;
    }
  }
  for (const json& check : actual["checks"]) EXPECT_TRUE(check["holds"]) << check;
  return compared;
}

class DialReference : public ::testing::TestWithParam<int> {};

TEST_P(DialReference, Interpreted) {
  const Sweep sweep(sweeps().at(static_cast<size_t>(GetParam())));
  SCOPED_TRACE(sweep.name());
  EXPECT_GE(expect_sweep(sweep, true), 16);
}

TEST_P(DialReference, Compiled) {
  const Sweep sweep(sweeps().at(static_cast<size_t>(GetParam())));
  SCOPED_TRACE(sweep.name());
  EXPECT_GE(expect_sweep(sweep, false), 16);
}

INSTANTIATE_TEST_SUITE_P(Sweeps, DialReference,
                         ::testing::Range(0, static_cast<int>(sweeps().size())),
                         [](const auto& info) {
                           const json& sweep = sweeps().at(static_cast<size_t>(info.param));
                           std::string name =
                               fmt::format("{}_{}", info.param, sweep["dial"].get<std::string>());
                           return name;
                         });

// The file has every dial in every form, so that none is left without a reference.
TEST(DialReferenceFile, HasEveryDial) {
  std::set<std::string> found, needed;
  for (const json& sweep : sweeps())
    found.insert(
        fmt::format("{} {}", sweep["dial"].get<std::string>(), sweep["form"].get<std::string>()));
  for (Dial dial : {Dial::mass, Dial::norm, Dial::value, Dial::position, Dial::mask}) {
    const std::vector<DialForm> forms = forms_of(dial);
    if (forms.empty()) needed.insert(fmt::format("{} ", dial_name(dial)));
    for (DialForm form : forms)
      needed.insert(fmt::format("{} {}", dial_name(dial), form_name(form)));
  }
  EXPECT_EQ(found, needed);
}

}  // namespace
}  // namespace weir
