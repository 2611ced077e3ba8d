// Reports as a browser shows them: on a desk, on a telephone, on paper, by keyboard, read aloud.
// Screenshots and the printed pages are kept under the build folder.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <regex>

#include "ir/edit.h"
#include "lab/experiments/check.h"
#include "lab/reference_model.h"
#include "lab/report/check_report.h"
#include "lab/report/compare.h"
#include "lab/report/dial_report.h"
#include "lab/report/measure_report.h"
#include "lab/report/quantize_report.h"
#include "lab/report/report.h"
#include "lab/report/sample_compare.h"
#include "lab/report/sample_dial.h"
#include "lab/report/sample_quantize.h"
#include "lab/report/sample_run.h"
#include "lab/report/sample_specialize.h"
#include "lab/report/series_report.h"
#include "lab/report/specialize_report.h"
#include "testing/browser.h"

namespace weir {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

// What every check needs, as JavaScript: boxes, and those among them that are wrong.
constexpr const char* kHelpers = R"js(
  const boxOf = (e) => e.getBoundingClientRect();
  const seen = (e) => e.getClientRects().length > 0 && boxOf(e).width > 0 && boxOf(e).height > 0;
  const all = (what) => [...document.querySelectorAll(what)].filter(seen);
  const nameOf = (e) => `${e.tagName}.${e.className} "${e.textContent.trim().slice(0, 40)}"`;
  const apart = (a, b) => a.right <= b.left + 1 || b.right <= a.left + 1 || a.bottom <= b.top + 1 || b.bottom <= a.top + 1;
  const overlapping = (elements) => elements.flatMap((a, i) => elements.slice(i + 1)
    .filter((b) => !apart(boxOf(a), boxOf(b))).map((b) => `${nameOf(a)} and ${nameOf(b)}`));
  const within = (inner, outer) => inner.left >= outer.left - 1 && inner.right <= outer.right + 1 &&
    inner.top >= outer.top - 1 && inner.bottom <= outer.bottom + 1;
  const wrongBoxes = () => [
    // Figures beside each other; what follows each other in a section; sections.
    ...all(".panels").flatMap((panels) => overlapping([...panels.children].filter(seen))),
    ...all("section").flatMap((section) => overlapping([...section.children].filter(seen))),
    ...overlapping(all("main > *, header, nav, footer")),
    // A drawing lies in its panel.
    ...all(".panel .main-svg").filter((e) => !within(boxOf(e), boxOf(e.closest(".panel"))))
      .map((e) => `the drawing of ${nameOf(e.closest(".panel"))} leaves it`),
    // Nothing is wider than the page, or has to be scrolled sideways.
    ...all("body *").filter((e) => !e.closest(".plot") && boxOf(e).right > innerWidth + 1)
      .map((e) => `${nameOf(e)} ends at ${boxOf(e).right} of ${innerWidth}`),
    ...all(".scroll").filter((e) => e.scrollWidth > e.clientWidth + 1)
      .map((e) => `${nameOf(e)} needs ${e.scrollWidth} of ${e.clientWidth}`),
  ];
)js";

std::string checked(const std::string& expression) {
  return fmt::format("(() => {{ {} return {}; }})()", kHelpers, expression);
}

std::vector<std::string> texts(const json& list) { return list.get<std::vector<std::string>>(); }

class Page : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (test::Browser::program().empty())
      GTEST_SKIP() << "no chromium on the PATH: how reports look is not checked";
    folder_ = fs::path(WEIR_TEST_PAGES) / GetParam();
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    html_ = folder_ / "report.html";
    write_page();
    browser_ = std::make_unique<test::Browser>();
  }

  bool is_measurement() const { return std::string(GetParam()).starts_with("measure"); }
  bool has_one_layer() const { return std::string(GetParam()).ends_with("one-layer"); }

  virtual void write_page() const {
    if (is_measurement()) {
      write_measure_report(html_.string(), measurement());
    } else {
      const test::SampleSize size =
          has_one_layer() ? test::SampleSize{.length = 64, .last_step = 100}
                          : test::SampleSize{.arms = 4, .layers = 4, .heads = 3, .dose = true};
      test::write_sample_run(folder_ / "run", size);
      write_report(folder_ / "run", html_);
    }
  }

  MeasureReport measurement() const {
    std::ifstream file(fmt::format("{}/reference/llama_massive.json", WEIR_TEST_DATA));
    json record = json::parse(file);
    if (has_one_layer()) {
      record["layers"].erase(record["layers"].begin() + 1, record["layers"].end());
      record["model"]["layers"] = 1;
    }
    MeasureReport report{record.dump(), "weir measure --model m --text book.txt", {}, {}};
    const int64_t B = record["tokens"]["batch"], T = record["tokens"]["length"];
    for (int64_t i = 0; i < B * T; ++i) report.token_texts.push_back(fmt::format("w{}", i));
    HostTensor map = zeros(f32({1, 1, T, T}));
    for (int64_t t = 0; t < T; ++t) map.data[static_cast<size_t>(t * T)] = 1;
    report.maps.push_back({0, 0, map_cells(T, kMapSide), map});
    return report;
  }

  void open(int width, int height, bool mobile = false) {
    browser_->resize(width, height, mobile);
    browser_->open(html_,
                   "document.querySelector('#controls:not([hidden])') && "
                   "[...document.querySelectorAll('.panel:not([hidden]) > .plot')]"
                   ".every((plot) => plot.querySelector('.main-svg'))");
    settle();
  }

  // Figures follow the size of their panels a little later: after a scroll bar has come, too.
  // What has not come to rest after three seconds is for the checks to find.
  void settle() {
    browser_->evaluate(
        "new Promise((done) => { let calm = 0, looks = 0; const look = () => { calm = "
        "[...document.querySelectorAll('.panel:not([hidden]) > .plot')].every((plot) => "
        "Math.abs(plot.clientWidth - (plot.querySelector('.main-svg')?.getAttribute('width') ?? "
        "0)) < 1 && Math.abs(plot.clientHeight - (plot.querySelector('.main-svg')"
        "?.getAttribute('height') ?? 0)) < 1) ? calm + 1 : 0; "
        "calm > 3 || ++looks > 60 ? done() : setTimeout(look, 50); }; look(); })");
  }

  void boxes_are_right(const std::string& name);
  void cards_name_the_column_of_each_number();
  void it_is_printed_whole();
  void keyboard_and_readers_are_served();
  void figures_are_saved_with_title_and_legend();
  void nothing_is_drawn_by_layer_of_one_layer();

  fs::path folder_, html_;
  std::unique_ptr<test::Browser> browser_;
};

void Page::boxes_are_right(const std::string& name) {
  browser_->write_screenshot(folder_ / (name + ".png"));
  settle();
  EXPECT_THAT(texts(browser_->evaluate(checked("wrongBoxes()"))), IsEmpty()) << name;
}

void Page::cards_name_the_column_of_each_number() {
  EXPECT_THAT(
      browser_->evaluate(checked("getComputedStyle(all('table.cards td')[0], '::before').content"))
          .get<std::string>(),
      HasSubstr(is_measurement() ? "sink rate" : "final loss"));
}

void Page::it_is_printed_whole() {
  browser_->evaluate(
      "addEventListener('beforeprint', () => { window.onPaper = [...document.querySelectorAll("
      "'.panel:not([hidden]) > .plot')].map((plot) => [plot.clientWidth, "
      "Number(plot.querySelector('.main-svg').getAttribute('width'))]); })");
  const std::string pdf = browser_->write_pdf(folder_ / "report.pdf");
  EXPECT_THAT(pdf, StartsWith("%PDF-"));
  // Figures were drawn anew for the sheet before it was printed, and for the screen after it.
  const json sizes = browser_->evaluate("window.onPaper");
  ASSERT_GT(sizes.size(), 1u);
  for (const json& size : sizes) {
    EXPECT_LE(size[0].get<double>(), 690);
    EXPECT_EQ(size[0], size[1]);
  }
  settle();
  EXPECT_THAT(texts(browser_->evaluate(checked("wrongBoxes()"))), IsEmpty());

  // The same layout where it can be measured: A4 and Letter without their margins, and narrower.
  browser_->evaluate("dispatchEvent(new Event('beforeprint'))");
  browser_->set_media("print");
  for (int width : {703, 640}) {
    browser_->resize(width, 1000);
    EXPECT_THAT(texts(browser_->evaluate(checked("wrongBoxes()"))), IsEmpty()) << width;
  }
  browser_->write_screenshot(folder_ / "print.png");
  EXPECT_EQ(browser_->evaluate(checked("all('#controls, nav, .choice, .modebar').length")), 0);
  EXPECT_EQ(browser_->evaluate(checked(
                "all('.swatch').filter((e) => getComputedStyle(e).printColorAdjust !== 'exact' "
                "|| getComputedStyle(e).backgroundColor === 'rgba(0, 0, 0, 0)').length")),
            0);
  browser_->set_media("");
}

void Page::keyboard_and_readers_are_served() {
  const json stops = browser_->evaluate(
      checked("all('a[href], button, input, select, textarea, summary, [tabindex]')"
              ".filter((e) => e.tabIndex >= 0).map((e) => e.closest('.plot') ? 'in a figure' : "
              "e.tagName)"));
  EXPECT_THAT(texts(stops), Not(testing::Contains("in a figure")));
  EXPECT_LE(stops.size(), 35u);
  const json figures = browser_->evaluate(
      checked("all('.plot').map((e) => [e.getAttribute('role'), e.getAttribute('aria-label')])"));
  ASSERT_GT(figures.size(), 3u);
  for (const json& figure : figures) {
    EXPECT_EQ(figure[0], "img");
    EXPECT_TRUE(std::regex_match(figure[1].get<std::string>(), std::regex(".+\\. .*[0-9].*\\.")))
        << figure[1];
    EXPECT_THAT(figure[1].get<std::string>(), Not(HasSubstr("undefined")));
  }
  if (!is_measurement()) {
    const json sink =
        browser_->evaluate(checked("all('#sink .plot')[0].getAttribute('aria-label')"));
    EXPECT_THAT(sink.get<std::string>(),
                testing::AllOf(StartsWith("Sink score, over training"),
                               HasSubstr("uniform causal attention: 0.074. baseline"),
                               HasSubstr(" at step 0, ")));
  }
}

void Page::figures_are_saved_with_title_and_legend() {
  const std::string name = is_measurement() ? "Gradient at the attention input" : "Sink score";
  const std::string plot = fmt::format(
      "[...document.querySelectorAll('.figure:not(#dose) .panel')].find((e) => "
      "e.querySelector('h4').textContent === '{}').querySelector('.plot')",
      name);
  const auto svg =
      browser_
          ->evaluate(
              fmt::format("Plotly.toImage(picture({}), {{format: 'svg', width: 1000, height: 600}})"
                          ".then(decodeURIComponent)",
                          plot))
          .get<std::string>();
  EXPECT_THAT(svg, HasSubstr(name));
  EXPECT_THAT(svg, HasSubstr("class=\"legendtext\""));
  EXPECT_THAT(svg, HasSubstr(is_measurement() ? "gradient" : "v-scale-full"));
  if (!is_measurement()) {
    EXPECT_THAT(svg, HasSubstr("uniform causal attention"));
  }
  // What the keyboard chooses is what is saved.
  browser_->evaluate(
      "HTMLAnchorElement.prototype.click = function() { window.saved = [this.download, "
      "this.href.slice(0, 22)]; }");
  browser_->evaluate(fmt::format(
      "(() => {{ const choice = document.getElementById('picture'); choice.selectedIndex = "
      "[...choice.options].findIndex((e) => e.text.startsWith('{}')); "
      "document.getElementById('save').click(); }})()",
      name));
  const json saved = browser_->evaluate(
      "new Promise((done) => { const look = () => window.saved ? done(window.saved) : "
      "setTimeout(look, 50); look(); })");
  EXPECT_THAT(texts(saved), ElementsAre(is_measurement() ? "gradient-at-the-attention-input.png"
                                                         : "sink-score.png",
                                        "data:image/png;base64,"));
}

void Page::nothing_is_drawn_by_layer_of_one_layer() {
  const json axes =
      browser_->evaluate(checked("all('.xtitle').filter((e) => e.textContent === 'layer').length"));
  if (!has_one_layer()) {
    EXPECT_GT(axes.get<int>(), 3);
    return;
  }
  EXPECT_EQ(axes, 0);
  EXPECT_THAT(browser_->evaluate("document.body.innerText").get<std::string>(),
              HasSubstr("This model has one layer"));
  EXPECT_EQ(browser_->evaluate(checked(
                "all('.plot').filter((plot) => plot.data.every((trace) => trace.type === 'scatter' "
                "&& trace.mode !== 'markers' && trace.x.length === 1)).length")),
            0);
}

// One browser a page, as starting it and drawing all figures takes seconds.
TEST_P(Page, IsSeenPrintedSavedAndReadWhole) {
  open(1300, 900);
  boxes_are_right("desk");
  keyboard_and_readers_are_served();
  nothing_is_drawn_by_layer_of_one_layer();
  figures_are_saved_with_title_and_legend();
  it_is_printed_whole();
  open(820, 900);
  boxes_are_right("small");
  open(390, 844, true);
  boxes_are_right("phone");
  cards_name_the_column_of_each_number();
  EXPECT_THAT(browser_->uncaught(), IsEmpty());
}

// The same boxes, words and sheets for the report of a dial or of quantisation, whose panels are
// fewer.
class DialPageLooks : public Page {
 protected:
  void write_page() const override {
    const std::string dial = GetParam();
    if (dial == "quantize")
      return write_quantize_report(html_.string(), test::sample_quantize(12).dump(),
                                   "weir quantize");
    if (dial == "dynamics" || dial == "risk" || dial == "pruning")
      return write_specialize_report(html_.string(), test::sample_specialize(dial, 12).dump(),
                                     "weir specialize");
    const int64_t layers = dial == "position" ? 1 : 12;
    write_dial_report(html_.string(), test::sample_dial(dial, layers, 4).dump(), "weir dial");
  }
};

TEST_P(DialPageLooks, IsSeenPrintedAndReadWhole) {
  open(1300, 900);
  boxes_are_right("desk");
  const json figures = browser_->evaluate(
      checked("all('.plot').map((e) => [e.getAttribute('role'), e.getAttribute('aria-label')])"));
  ASSERT_GT(figures.size(), 1u);
  for (const json& figure : figures)
    EXPECT_THAT(figure[1].get<std::string>(), Not(HasSubstr("undefined")));
  it_is_printed_whole();
  open(390, 844, true);
  boxes_are_right("phone");
  EXPECT_THAT(browser_->uncaught(), IsEmpty());
}

// And for a comparison: one seed a run, a sweep of several grid points, many arms.
class ComparePageLooks : public Page {
 protected:
  void write_page() const override {
    std::vector<std::string> folders;
    const std::string kind = GetParam();
    if (kind == "compare-sweep") {
      test::write_sample_sweep(folder_ / "sweep", 6);
      folders.push_back((folder_ / "sweep").string());
    } else {
      const int64_t seeds = kind == "compare-one" ? 1 : 3;
      for (int64_t seed = 1; seed <= seeds; ++seed) {
        const double shift = 0.01 * static_cast<double>(seed);
        std::vector<test::ComparedArm> arms = {test::sinking_arm(shift)};
        for (int a = 1; a < (kind == "compare-one" ? 1 : 6); ++a) {
          arms.push_back(test::regulated_arm(shift, 0.02 * a));
          arms.back().name = fmt::format("v-scale-with-a-long-name-{}", a);
        }
        folders.push_back((folder_ / fmt::format("run{}", seed)).string());
        test::write_compared_run(folders.back(), seed, arms);
      }
    }
    write_compare_report(html_.string(), compare_record(folders, {.command = "weir compare"}));
  }
};

TEST_P(ComparePageLooks, IsSeenPrintedAndReadWhole) {
  open(1300, 900);
  boxes_are_right("desk");
  const json figures = browser_->evaluate(
      checked("all('.plot').map((e) => [e.getAttribute('role'), e.getAttribute('aria-label')])"));
  ASSERT_GT(figures.size(), 20u);
  for (const json& figure : figures) {
    EXPECT_EQ(figure[0], "img");
    EXPECT_TRUE(std::regex_match(figure[1].get<std::string>(), std::regex(".+\\. .*[0-9].*\\.")))
        << figure[1];
    EXPECT_THAT(figure[1].get<std::string>(), Not(HasSubstr("undefined")));
  }
  // At equal loss the tokens stand in the place of the loss.
  const auto first = [&] {
    return browser_->evaluate(checked("all('#spread h4')[0].textContent")).get<std::string>();
  };
  EXPECT_EQ(first(), "loss");
  browser_->evaluate(
      "(() => { const at = document.getElementById('at'); at.value = 'equal_loss'; "
      "at.dispatchEvent(new Event('change')); })()");
  settle();
  EXPECT_EQ(first(), "tokens");
  boxes_are_right("equal-loss");
  it_is_printed_whole();
  open(390, 844, true);
  boxes_are_right("phone");
  EXPECT_THAT(browser_->uncaught(), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Comparisons, ComparePageLooks,
                         testing::Values("compare-one", "compare-many", "compare-sweep"));
// The report of a series has the figures of a run, of one arm whose steps are checkpoints.
class SeriesPageLooks : public Page {
 protected:
  void write_page() const override {
    SeriesReport series;
    const test::SampleSize size{.layers = 4, .heads = 3};
    for (const int step : {0, 1, 8, 64, 512})
      series.add(test::SampleRecord(size, 0, step).record().dump());
    HostTensor map = zeros(f32({1, 1, size.length, size.length}));
    for (int64_t t = 0; t < size.length; ++t) map.data[static_cast<size_t>(t * size.length)] = 1;
    series.set_maps({{0, 0, map_cells(size.length, kMapSide), map}},
                    std::vector<std::string>(static_cast<size_t>(size.length), "word"));
    series.write(html_.string(), "checkpoints/*", "weir measure --model 'checkpoints/*'");
  }
};

TEST_P(SeriesPageLooks, IsSeenPrintedAndReadWhole) {
  open(1300, 900);
  boxes_are_right("desk");
  const json figures = browser_->evaluate(
      checked("all('.plot').map((e) => [e.getAttribute('role'), e.getAttribute('aria-label')])"));
  ASSERT_GT(figures.size(), 20u);
  for (const json& figure : figures)
    EXPECT_THAT(figure[1].get<std::string>(), Not(HasSubstr("undefined")));
  const json losses = browser_->evaluate(
      "document.querySelector('#loss .plot').data.map((trace) => [trace.y.length, trace.mode])");
  EXPECT_EQ(losses, (json{{5, "lines+markers"}}));
  EXPECT_EQ(browser_->evaluate("document.querySelectorAll('#loss select').length"), 0);
  EXPECT_THAT(browser_->evaluate("document.querySelector('.meta').textContent").get<std::string>(),
              StartsWith("5 checkpoints · 4 layers"));
  it_is_printed_whole();
  open(390, 844, true);
  boxes_are_right("phone");
  EXPECT_EQ(
      browser_->evaluate(checked("getComputedStyle(all('table.cards td')[0], '::before').content")),
      "\"loss: \"");
  EXPECT_THAT(browser_->uncaught(), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Series, SeriesPageLooks, testing::Values("series"));

INSTANTIATE_TEST_SUITE_P(Dials, DialPageLooks,
                         testing::Values("mass", "norm", "value", "position", "mask", "quantize",
                                         "dynamics", "risk", "pruning"));

// The report of a check, of a record that a check has made.
class CheckPageLooks : public Page {
 protected:
  bool is(const char* name) const { return std::string(GetParam()) == name; }

  void write_page() const override {
    const test::ReferenceModel model(is("check-one-layer") ? "llama_long" : "llama_massive");
    CheckTask task{.options = model.task.options, .run = model.task.run};
    task.options.rewrites.v_scale.variant = VScaleVariant::full;
    if (is("check-fails")) {
      task.options.rewrites.attention = AttentionNormalizer::softmax_1;
      task.run.plant_fault = wrong_values;
    }
    const CheckOutcome outcome = Checker(model.source, model.batch, task).check();
    EXPECT_EQ(outcome.failures.empty(), !is("check-fails"));
    json record = json::parse(outcome.record);
    if (is("check-deep")) deepen(record);
    write_check_report(html_.string(), record.dump(), "weir check --model m --text book.txt");
  }

  // Gradients at values of the first backward kernel, twice as large.
  static GraphPtr wrong_values(const GraphPtr& program) {
    bool done = false;
    return rewrite(program, [&](Rewriter& to, int32_t id) -> std::optional<std::vector<Value>> {
      const Node& node = program->node(id);
      if (node.op != Op::attention_grad || std::exchange(done, true)) return std::nullopt;
      std::vector<Value> results = to.add_node(node.op, to[node.inputs], node.attrs, node.where);
      results[2] = to.add(Op::add, {results[2], results[2]});
      return results;
    });
  }

  // Eight times as many layers, with sixteen times as many heads.
  static void deepen(json& record) {
    json sites = json::array();
    const int64_t layers = record["model"]["layers"];
    for (int64_t copy = 0; copy < 8; ++copy)
      for (json site : record["sites"]) {
        if (site["layer"].is_number()) {
          const int64_t layer = site["layer"].get<int64_t>() + copy * layers;
          const std::string label = site["label"];
          site["label"] = fmt::format("blocks.{}{}", layer, label.substr(label.find('.', 7)));
          site["layer"] = layer;
        } else if (copy > 0) {
          continue;
        }
        for (auto& [key, result] : site["identities"].items())
          for (const char* numbers : {"error", "largest", "median"}) {
            if (!result.contains(numbers)) continue;
            const json few = result[numbers];
            for (int i = 1; i < 16; ++i)
              for (const json& value : few) result[numbers].push_back(value);
          }
        sites.push_back(site);
      }
    record["sites"] = sites;
  }

  // The numbers that a figure shows.
  json drawn(const char* figure) const {
    return browser_->evaluate(
        checked(fmt::format("all('#tightness .plot')[{}].data[0].z", figure)));
  }
};

TEST_P(CheckPageLooks, IsSeenPrintedAndReadWhole) {
  open(1300, 900);
  boxes_are_right("desk");
  const json figures = browser_->evaluate(
      checked("all('.plot').map((e) => [e.getAttribute('role'), e.getAttribute('aria-label')])"));
  ASSERT_GT(figures.size(), 3u);
  EXPECT_EQ(figures.size(), browser_->evaluate("data.figures.length").get<size_t>());
  for (const json& figure : figures) {
    EXPECT_EQ(figure[0], "img");
    EXPECT_THAT(figure[1].get<std::string>(),
                testing::AllOf(Not(IsEmpty()), Not(HasSubstr("undefined"))));
  }
  // What is chosen is drawn.
  EXPECT_EQ(drawn("0"), browser_->evaluate("data.figures[0].median"));
  browser_->evaluate(
      "(() => { const which = document.getElementById('which'); which.value = 'largest'; "
      "which.dispatchEvent(new Event('change')); })()");
  settle();
  EXPECT_EQ(drawn("0"), browser_->evaluate("data.figures[0].largest"));
  EXPECT_NE(drawn("0"), browser_->evaluate("data.figures[0].median"));
  const auto text = browser_->evaluate("document.body.innerText").get<std::string>();
  EXPECT_THAT(text, HasSubstr("weir check --model m --text book.txt"));
  if (is("check-fails"))
    EXPECT_THAT(text, testing::AllOf(HasSubstr("value_gradient of blocks.2.attn fails at"),
                                     HasSubstr("Not applicable: first_query")));
  else
    EXPECT_THAT(text, HasSubstr("Every identity and every bound holds."));
  it_is_printed_whole();
  open(390, 844, true);
  boxes_are_right("phone");
  EXPECT_THAT(browser_->uncaught(), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Checks, CheckPageLooks,
                         testing::Values("check-one-layer", "check-deep", "check-fails"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::erase(name, '-');
                           return name;
                         });

INSTANTIATE_TEST_SUITE_P(Reports, Page,
                         testing::Values("train-one-layer", "train-deep", "measure-one-layer",
                                         "measure-deep"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::erase(name, '-');
                           return name;
                         });

}  // namespace
}  // namespace weir
