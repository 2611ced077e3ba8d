// Files that stand where a command writes: its own of before are replaced, others are not.
#include <gmock/gmock.h>

#include <vector>

#include "io/npy.h"
#include "tools/command_test_util.h"

namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using Result = weir::test::CommandResult;

class OutputCommand : public weir::test::Command {
 protected:
  void SetUp() override {
    fs::copy(fmt::format("{}/models/llama", WEIR_TEST_DATA), folder_ / "model");
    const std::vector<int64_t> shape = {1, 5};
    const std::vector<int32_t> ids = {1, 2, 3, 4, 5};
    weir::write_npy((folder_ / "ids.npy").string(),
                    {weir::FileDtype::i32, shape, std::as_bytes(std::span(ids))});
  }
  // Refused with that status and text, and the file as it was.
  void expect_kept(const std::string& arguments, const std::string& file, int status,
                   const std::string& message) const {
    const std::string before = text_of(folder_ / file);
    const Result result = weir(arguments);
    EXPECT_EQ(result.status, status) << arguments;
    EXPECT_THAT(result.err, HasSubstr(message)) << arguments;
    EXPECT_EQ(result.out, "") << arguments << ": nothing is loaded or computed before";
    EXPECT_TRUE(text_of(folder_ / file) == before) << arguments;
  }
  void expect_replaced(const std::string& arguments, const std::string& file) const {
    const fs::file_time_type time = fs::last_write_time(folder_ / file);
    fs::last_write_time(folder_ / file, time - std::chrono::hours(1));
    const Result result = weir(arguments);
    EXPECT_EQ(result.status, 0) << arguments << result.err;
    EXPECT_GE(fs::last_write_time(folder_ / file), time) << arguments << " did not write " << file;
  }
};

const char* const kRefused = "so it is not replaced. Give another name, or --overwrite";

TEST_F(OutputCommand, ReplacesWhatMeasureWroteBefore) {
  const std::string measure =
      "measure --model model --tokens ids.npy --json r.json --save-probes p.npz --profile f.json "
      "--probe 'blocks.0.attn.hook_v'";
  ASSERT_EQ(weir(measure).status, 0);
  for (const char* file : {"r.json", "r.html", "p.npz", "f.json"}) expect_replaced(measure, file);
  // An empty file, as mktemp makes it.
  write("empty", "");
  expect_replaced("measure --model model --tokens ids.npy --no-report --json empty", "empty");
}

TEST_F(OutputCommand, KeepsWhatMeasureDidNotWrite) {
  const std::string measure = "measure --model model --tokens ids.npy ";
  write("notes", "my notes");
  write("steps.jsonl", "{\"format\":\"weir.measure/1\",\"step\":0,\"loss\":1}\n");
  write("eval.json", "{\"format\":\"weir.eval/1\",\"loss\":1}\n");
  write("page.html", "<!DOCTYPE html>\n<title>a page</title>\n");
  fs::copy_file(folder_ / "ids.npy", folder_ / "other.npy");
  for (const char* file : {"notes", "steps.jsonl", "eval.json", "page.html", "other.npy"}) {
    expect_kept(measure + "--no-report --json " + file, file, 1,
                fmt::format("[measure] --json: {} is there already and is not a record of the "
                            "format weir.measure, {}",
                            file, kRefused));
    expect_kept(measure + "--report " + file, file, 1, "is not a report of Weir's");
    expect_kept(measure + "--probe 'blocks.0.attn.hook_v' --save-probes " + file, file, 1,
                "is not an archive of probes");
    expect_kept(measure + "--profile " + file, file, 1, "is not a record of the format weir.prof");
  }
  // The report that goes beside the record.
  expect_kept(measure + "--json page.json", "page.html", 1, "the report: page.html is there");
  expect_replaced(measure + "--json page.json --overwrite", "page.html");
  expect_replaced(measure + "--report notes --overwrite", "notes");
}

TEST_F(OutputCommand, KeepsEvalRecordsApart) {
  const std::string eval = "eval --model model --tokens ids.npy --json ";
  ASSERT_EQ(weir(eval + "e.json").status, 0);
  expect_replaced(eval + "e.json", "e.json");
  ASSERT_EQ(weir("measure --model model --tokens ids.npy --no-report --json m.json").status, 0);
  expect_kept(eval + "m.json", "m.json", 1, "is not a record of the format weir.eval");
  expect_replaced(eval + "m.json --overwrite", "m.json");
}

TEST_F(OutputCommand, NeverWritesOverItsInputs) {
  const std::string over = " --overwrite";
  for (const std::string& command :
       {std::string("measure --no-report --model model --tokens ids.npy --json "),
        std::string("eval --model model --tokens ids.npy --json ")}) {
    for (const char* file : {"model/model.safetensors", "model/config.json"}) {
      expect_kept(command + file, file, 2, "a file of the folder model that --model reads");
      expect_kept(command + file + over, file, 2, "a file of the folder model that --model reads");
    }
    fs::remove(folder_ / "hard");
    fs::remove(folder_ / "blob");
    fs::create_hard_link(folder_ / "ids.npy", folder_ / "hard");
    expect_kept(command + "hard" + over, "hard", 2, "would be written over what --tokens reads");
    // A folder whose weights are links, as the cache of Hugging Face has them.
    fs::rename(folder_ / "model/model.safetensors", folder_ / "blob");
    fs::create_symlink("../blob", folder_ / "model/model.safetensors");
    expect_kept(command + "blob" + over, "blob", 2, "a file of the folder model that --model");
    fs::rename(folder_ / "blob", folder_ / "model/model.safetensors");
  }
  // A record in the model's folder is one of its own.
  const std::string measure = "measure --model model --tokens ids.npy --no-report --json ";
  ASSERT_EQ(weir(measure + "model/record.json").status, 0);
  expect_replaced(measure + "model/record.json", "model/record.json");
}

TEST_F(OutputCommand, TokensKeepTheTextAndOtherFiles) {
  write("a.txt", "some text");
  write("b.txt", "more of it");
  const std::string tokens = "tokens --tokenizer bytes ";
  for (const char* text : {"a.txt", "'*.txt'", "."})
    expect_kept(tokens + "--out a.txt --overwrite --text " + text, "a.txt", 2,
                "--out would be written over what --text reads, a.txt.");
  expect_kept(tokens + "--text a.txt --out b.txt", "b.txt", 1,
              "b.txt is there already and is not an array of token ids as `weir tokens` writes");
  const float numbers[] = {1, 2};
  const int64_t shape[] = {2};
  weir::write_npy((folder_ / "f32.npy").string(), shape, numbers);
  expect_kept(tokens + "--text a.txt --out f32.npy", "f32.npy", 1, kRefused);
  expect_replaced(tokens + "--text a.txt --out ids.npy", "ids.npy");
  expect_replaced(tokens + "--text a.txt --out b.txt --overwrite", "b.txt");
  expect_kept(tokens + "--decode ids.npy --out a.txt", "a.txt", 1, kRefused);
  expect_replaced(tokens + "--decode ids.npy --out a.txt --overwrite", "a.txt");
  // Text shows no origin, and an array of ids is none.
  write("decoded.txt", "");
  ASSERT_EQ(weir(tokens + "--decode ids.npy --out decoded.txt").status, 0);
  for (const char* file : {"decoded.txt", "b.txt"})
    expect_kept(tokens + "--decode ids.npy --out " + file, file, 1,
                fmt::format("--out: {} is there already, and text does not show whose it is, {}",
                            file, kRefused));
}

// Files that go with the one that is named are read as well.
TEST_F(OutputCommand, NeverWritesOverTheCompanyOfItsInputs) {
  const std::string over = " --overwrite";
  fs::create_directory(folder_ / "gguf");
  for (const char* name : {"gguf/z-00001-of-00002.gguf", "gguf/z-00002-of-00002.gguf",
                           "gguf/config.json", "gguf/generation_config.json"})
    write(name, "a part");
  for (const char* command :
       {"measure --no-report --tokens ids.npy --json ", "eval --tokens ids.npy --json "})
    for (const char* file :
         {"gguf/z-00002-of-00002.gguf", "gguf/config.json", "gguf/generation_config.json"})
      expect_kept(command + (file + over) + " --model gguf/z-00001-of-00002.gguf", file, 2,
                  "--json would be written over what --model reads");
  write("a.txt", "some text");
  fs::create_directory(folder_ / "tk");
  const std::vector<std::string> names = {"vocab.json",
                                          "merges.txt",
                                          "tokenizer.json",
                                          "tokenizer.model",
                                          "tokenizer_config.json",
                                          "special_tokens_map.json",
                                          "added_tokens.json",
                                          "config.json",
                                          "generation_config.json"};
  for (const std::string& name : names) write("tk/" + name, "{}");
  for (const std::string& name : names)
    for (const char* tokenizer : {"vocab.json", "tokenizer.json", "tokenizer.model"})
      expect_kept(
          fmt::format("tokens --tokenizer tk/{} --text a.txt --out tk/{}", tokenizer, name) + over,
          "tk/" + name, 2, "--out would be written over what --tokenizer reads");
  // Merges may be none at all.
  write("tk/merges.txt", "");
  expect_kept("tokens --tokenizer tk --text a.txt --out tk/merges.txt" + over, "tk/merges.txt", 2,
              "a file of the folder tk that --tokenizer reads");
  expect_kept(
      "eval --model model --tokenizer tk/vocab.json --text a.txt --json tk/merges.txt" + over,
      "tk/merges.txt", 2, "--json would be written over what --tokenizer reads");
}

TEST_F(OutputCommand, NeverWritesOverFilesOfOtherModels) {
  fs::copy(folder_ / "model", folder_ / "other");
  fs::create_directory(folder_ / "gguf");
  fs::create_directory(folder_ / "tk");
  fs::create_directory(folder_ / "links");
  write("gguf/only.gguf", "weights");
  write("tk/tokenizer.model", "a tokenizer");
  fs::create_symlink("../other/config.json", folder_ / "links/record.json");
  write("a.txt", "some text");
  const std::string measure = "measure --model model --tokens ids.npy --no-report ";
  for (const std::string& command :
       {measure + "--json ", measure + "--profile ",
        measure + "--probe 'blocks.0.attn.hook_v' --save-probes ",
        std::string("measure --model model --tokens ids.npy --report "),
        std::string("eval --model model --tokens ids.npy --json "),
        std::string("tokens --tokenizer bytes --text a.txt --out "),
        std::string("tokens --tokenizer bytes --decode ids.npy --out ")})
    for (const char* file : {"other/model.safetensors", "other/config.json", "gguf/only.gguf",
                             "tk/tokenizer.model", "links/record.json"})
      for (const char* over : {"", " --overwrite"})
        expect_kept(command + file + over, file, 2, "is a name that files of the model in ");
  // Not even a record of its own kind.
  write("other/generation_config.json", "{\"format\":\"weir.measure/1\",\"loss\":1}\n");
  expect_kept(measure + "--json other/generation_config.json", "other/generation_config.json", 2,
              "--json: other/generation_config.json is a name that files of the model in ");
  // Other files of such folders are like those of any folder.
  write("other/notes", "my notes");
  expect_kept(measure + "--json other/notes", "other/notes", 1, kRefused);
  expect_replaced(measure + "--json other/notes --overwrite", "other/notes");
}

// A later command would read them without being told so.
TEST_F(OutputCommand, MakesNoFileThatAModelIsReadWith) {
  fs::copy(folder_ / "model", folder_ / "other");
  for (const std::string folder : {"model", "other"})
    for (const char* name :
         {"tokenizer.json", "generation_config.json", "model.safetensors.index.json",
          "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt",
          "added_tokens.json", "tokenizer.model", "more.safetensors", "more.gguf"}) {
      const std::string file = fmt::format("{}/{}", folder, name);
      for (const char* command : {"measure --model model --tokens ids.npy --no-report --json ",
                                  "eval --model model --tokens ids.npy --json "}) {
        const Result result = weir(command + file);
        EXPECT_EQ(result.status, 2) << command << file;
        EXPECT_THAT(result.err, HasSubstr(file + " is a name that files of the model in "));
        EXPECT_FALSE(fs::exists(folder_ / file)) << command << file;
      }
    }
  // Without a model beside it a name is as good as any other, and so it is the next time.
  fs::create_directory(folder_ / "plain");
  const std::string eval = "eval --model model --tokens ids.npy --json plain/vocab.json";
  EXPECT_EQ(weir(eval).status, 0);
  expect_replaced(eval, "plain/vocab.json");
}

TEST_F(OutputCommand, NeverWritesOverFilesOfARun) {
  ASSERT_EQ(weir("train out=run steps=1 batch=1 length=32 model.layers=1 model.d_model=16 "
                 "model.d_head=8 model.heads=2 model.d_ff=24 optimizer.warmup=1 measure.steps=1 "
                 "'measure.probes=blocks.0.attn.hook_v : batch_sum'")
                .status,
            0);
  const std::string measure = "measure --model model --tokens ids.npy --no-report ";
  std::vector<std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder_ / "run"))
    if (entry.is_regular_file())
      files.push_back(entry.path().lexically_relative(folder_).generic_string());
  ASSERT_GT(files.size(), 10U);
  fs::create_symlink("run/run", folder_ / "arm");
  files.push_back("arm/loss.jsonl");
  for (const std::string& file : files)
    expect_kept(measure + "--overwrite --json " + file, file, 2,
                fmt::format("--json: {} is a file of the run in ", file));
  const std::string probes = "run/run/probes/step000001.npz";
  expect_kept(measure + "--probe 'blocks.0.attn.hook_v' --save-probes " + probes, probes, 2,
              "is a file of the run in ");
  expect_kept("measure --model model --tokens ids.npy --report run/report.html", "run/report.html",
              2, "is a file of the run in ");
  fs::copy(folder_ / "run", folder_ / "second", fs::copy_options::recursive);
  expect_kept("report run --out second/report.html", "second/report.html", 2,
              "is a file of the run in ");
  // What the manifest does not list is not the run's.
  ASSERT_EQ(weir(measure + "--json run/record.json").status, 0);
  expect_replaced(measure + "--json run/record.json", "run/record.json");
  // A damaged manifest does not say whose a file is; one of another program says nothing.
  write("second/record.json", "mine");
  write("second/manifest.jsonl", "{\"format\":\"weir.manifest/1\",\"made_by\":\"train\"}\n?\n");
  expect_kept(measure + "--overwrite --json second/record.json", "second/record.json", 2,
              "is a file of the run in ");
  write("second/manifest.jsonl", "{\"audio\":\"a.wav\"}\n");
  expect_replaced(measure + "--overwrite --json second/record.json", "second/record.json");
}

// The report that goes beside the record is written without being named.
TEST_F(OutputCommand, NeverWritesAReportOverItsInputs) {
  write("page.html", "<!DOCTYPE html>\n<title>a page</title>\n");
  expect_kept(
      "measure --model model --tokenizer bytes --text page.html --json page.json --overwrite",
      "page.html", 2, "the report would be written over what --text reads, page.html.");
  write("model/card.html", "<!DOCTYPE html>\n<title>a page</title>\n");
  expect_kept("measure --model model --tokens ids.npy --json model/card.json --overwrite",
              "model/card.html", 2, "the report would be written over model/card.html, a file of");
  EXPECT_EQ(weir("measure --model model --tokens ids.npy --json r.json --profile r.html").status,
            2);
}

TEST_F(OutputCommand, LongNamesAreTriedBefore) {
  const std::string longest = std::string(250, 'n') + ".json";
  const Result written = weir("eval --model model --tokens ids.npy --json " + longest);
  EXPECT_EQ(written.status, 0) << written.err;
  expect_replaced("eval --model model --tokens ids.npy --json " + longest, longest);
  const Result refused = weir("eval --model model --tokens ids.npy --json n" + longest);
  EXPECT_EQ(refused.status, 1);
  EXPECT_EQ(refused.out, "");
  EXPECT_THAT(refused.err, HasSubstr("cannot be written: File name too long."));
  // The report's name is one byte longer than the record's.
  const std::string record = std::string(251, 'n') + ".js";
  const Result beside = weir("measure --model model --tokens ids.npy --json " + record);
  EXPECT_EQ(beside.status, 1);
  EXPECT_EQ(beside.out, "");
  EXPECT_THAT(beside.err, HasSubstr("the report: "));
}

TEST_F(OutputCommand, ReportsKeepTheFilesOfTheRun) {
  ASSERT_EQ(weir("train out=run steps=1 batch=1 length=32 model.layers=1 model.d_model=16 "
                 "model.d_head=8 model.heads=2 model.d_ff=24 optimizer.warmup=1 measure.steps=1")
                .status,
            0);
  expect_kept("report run --out run/run.json --overwrite", "run/run.json", 2,
              "a file of the folder run that run reads, which is no report of Weir's.");
  expect_replaced("report run --out run/report.html", "run/report.html");
  expect_replaced("report run", "run/report.html");
  write("page.html", "<!DOCTYPE html>\n<title>a page</title>\n");
  expect_kept("report run --out page.html", "page.html", 1, kRefused);
  expect_replaced("report run --out page.html --overwrite", "page.html");
  fs::copy_file(folder_ / "run/run.json", folder_ / "run/report.html",
                fs::copy_options::overwrite_existing);
  expect_kept("report run", "run/report.html", 2, "the report would be written over run/report");
}

}  // namespace
