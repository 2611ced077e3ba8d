// Damaged text: whatever bytes come in, a graph or a UserError comes out, and whether the graph
// obeys the rules of its stage can be told.
#include <gtest/gtest.h>

#include "ir/parse.h"
#include "ir/print.h"
#include "ir/verify.h"
#include "models/llama.h"
#include "passes/pipeline.h"
#include "support/error.h"
#include "support/text.h"
#include "testing/random_graph.h"
#include "testing/random_tensor.h"

namespace weir {
namespace {

std::vector<std::string> originals() {
  std::vector<std::string> texts;
  for (uint64_t seed = 0; seed < 12; ++seed)
    texts.push_back(print_graph(*test::random_graph(seed, 10)));
  CompileOptions options;
  options.target = parse_target("x86-64-v3");
  options.gradients = {"*"};
  Model model = build_llama({.layers = 1,
                             .d_model = 8,
                             .heads = 2,
                             .kv_heads = 1,
                             .d_head = 4,
                             .d_ff = 12,
                             .vocabulary = 11},
                            2, 5);
  for (Stage stage : {Stage::built, Stage::lowered, Stage::planned}) {
    options.stop = stage;
    texts.push_back(print_graph(*run_pipeline(model.graph, options).graph));
  }
  return texts;
}

size_t below(test::Random& random, size_t count) {
  return static_cast<size_t>(random.integer(0, static_cast<int64_t>(count) - 1));
}

// Damages one place: a byte, or a whole line.
void mutate(std::string& text, test::Random& random) {
  const std::string_view alphabet =
      "ABxyz019-+.e$/_ \t\n\r\"\\#()[]{},=:;?\xff\x80\0"
      "99999999999999999999";
  char byte = alphabet[below(random, alphabet.size())];
  size_t at = below(random, text.size() + 1);
  std::vector<std::string> lines = split(text, '\n');
  size_t line = below(random, lines.size()), other = below(random, lines.size());
  switch (random.integer(0, 6)) {
    case 0:
      text.erase(at, static_cast<size_t>(random.integer(1, 4)));
      return;
    case 1:
    case 2:
      text.insert(at, static_cast<size_t>(random.integer(1, 3)), byte);
      return;
    case 3:
      if (at < text.size()) text[at] = byte;
      return;
    case 4:
      lines.erase(lines.begin() + static_cast<int64_t>(line));
      break;
    case 5:
      lines.insert(lines.begin() + static_cast<int64_t>(line), lines[other]);
      break;
    default:
      std::swap(lines[line], lines[other]);
      break;
  }
  text = join(lines, "\n");
}

// Claims another stage, whose rules the graph may break.
void restage(std::string& text, test::Random& random) {
  size_t at = text.find("stage=") + 6;
  text.replace(at, text.find_first_of(" \n", at) - at,
               stage_names()[below(random, stage_names().size())]);
}

TEST(Mutation, DamagedTextIsAGraphOrAUserError) {
  test::Random random(7);
  int64_t graphs = 0, errors = 0, broken = 0;
  for (const std::string& original : originals())
    for (int round = 0; round < 200; ++round) {
      std::string text = original;
      if (random.chance(0.3)) restage(text, random);
      for (int64_t i = random.integer(0, 3); i > 0 && !text.empty(); --i) mutate(text, random);
      try {
        GraphPtr graph = parse_graph(text);
        ++graphs;
        // What was understood is printed so that it is understood again.
        std::string printed = print_graph(*graph);
        ASSERT_TRUE(*parse_graph(printed) == *graph) << printed;
        try {
          verify_user(*graph, "damaged");
        } catch (const UserError&) {
          ++broken;
        }
      } catch (const UserError& error) {
        ++errors;
        ASSERT_TRUE(std::string_view(error.what()).starts_with("[parse] ")) << error.what();
      } catch (const std::exception& error) {
        FAIL() << error.what() << "\n" << text;
      }
    }
  EXPECT_GT(graphs, 100);
  EXPECT_GT(errors, 1000);
  EXPECT_GT(broken, 50);
}

TEST(Mutation, ArbitraryBytes) {
  test::Random random(8);
  for (int round = 0; round < 2000; ++round) {
    std::string text = round % 2 ? "graph g (" : "";
    for (int64_t i = random.integer(0, 60); i > 0; --i)
      text += static_cast<char>(random.integer(0, 255));
    EXPECT_THROW(parse_graph(text), UserError) << text;
  }
}

TEST(Mutation, DeepAndLongTextsAreRefused) {
  for (const char* part :
       {"(", "[", "{", "graph ", "region ", "A, ", "A = ", "\"", "1", "\\", "#"}) {
    std::string text = "graph g (x: f32[2])\nA = exp x ";
    for (int i = 0; i < 100000; ++i) text += part;
    EXPECT_THROW(parse_graph(text), UserError) << part;
  }
}

}  // namespace
}  // namespace weir
