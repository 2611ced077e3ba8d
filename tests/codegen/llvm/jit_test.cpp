#include "codegen/llvm/jit.h"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "codegen/kernel_test.h"
#include "codegen/llvm/object_cache.h"
#include "support/error.h"

namespace weir {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

/// A kernel that stores tile * factor at [tile], and counts its emissions.
KernelSource scale_kernel(const std::string& symbol, int factor, std::atomic<int>* emissions,
                          const std::string& key = "") {
  return {symbol, key, [=](Emitter& e) {
            if (emissions) ++*emissions;
            const KernelFrame frame = e.begin_kernel(symbol, {{.written = true}});
            e.for_loop(frame.first_tile, frame.last_tile, 1, [&](llvm::Value* i) {
              llvm::Value* tile = e.ir().CreateTrunc(i, e.i32_type());
              e.store(Storage::i32, e.ir().CreateMul(tile, e.i32(factor)), frame.buffers[0], i);
            });
            e.end_kernel();
          }};
}

int value_at_tile_2(weir_kernel kernel) {
  Buffer out(64);
  void* buffers[] = {out.data()};
  kernel(buffers, 1, 3, nullptr);
  EXPECT_EQ(out.as<int32_t>()[0], 0) << "tile 0 was not asked for";
  return out.as<int32_t>()[2];
}

class TemporaryFolder {
 public:
  TemporaryFolder() {
    char name[] = "/tmp/weir_test_XXXXXX";
    path_ = mkdtemp(name);
  }
  ~TemporaryFolder() { fs::remove_all(path_); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

TEST(Jit, CompilesManyKernelsOnAnyNumberOfThreads) {
  for (const Target& target : runnable_targets())
    for (int threads : {1, 2, 3}) {
      Jit jit(target, {.threads = threads});
      std::vector<KernelSource> kernels;
      for (int i = 0; i < 20; ++i)
        kernels.push_back(scale_kernel("k" + std::to_string(i), i, nullptr));
      jit.add(kernels);
      jit.add({scale_kernel("later", 50, nullptr)});
      for (int i = 0; i < 20; ++i)
        EXPECT_EQ(value_at_tile_2(jit.kernel("k" + std::to_string(i))), 2 * i);
      EXPECT_EQ(value_at_tile_2(jit.kernel("later")), 100);
      EXPECT_EQ(jit.statistics().compiled, 21);
    }
}

TEST(Jit, PerfAndGdbCanWatch) {
  TemporaryFolder folder;
  const std::string before = std::getenv("JITDUMPDIR") ? std::getenv("JITDUMPDIR") : "";
  setenv("JITDUMPDIR", (folder / "dump").c_str(), 1);
  {
    Jit jit(host_target(), {.perf = true, .gdb = true});
    jit.add({scale_kernel("watched", 3, nullptr)});
    EXPECT_EQ(value_at_tile_2(jit.kernel("watched")), 6);
  }
  before.empty() ? unsetenv("JITDUMPDIR") : setenv("JITDUMPDIR", before.c_str(), 1);
  bool found = false;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder / ""))
    if (entry.path().extension() == ".dump") {
      std::ifstream file(entry.path(), std::ios::binary);
      const std::string bytes(std::istreambuf_iterator<char>(file), {});
      found = bytes.find("watched.body") != std::string::npos;
      EXPECT_EQ(bytes.substr(32, 8), std::string(8, '\0')) << "perf knows no flag of the header";
    }
  EXPECT_TRUE(found) << "no jitdump names the kernel";
}

TEST(Jit, AJitdumpThatCannotBeWrittenIsAUserError) {
  const std::string before = std::getenv("JITDUMPDIR") ? std::getenv("JITDUMPDIR") : "";
  for (const char* folder : {"relative", "/dev/null/x", "/proc"}) {
    setenv("JITDUMPDIR", folder, 1);
    try {
      Jit jit(host_target(), {.perf = true});
      ADD_FAILURE() << folder;
    } catch (const UserError& error) {
      EXPECT_THAT(error.what(), ::testing::HasSubstr(std::string("below ") + folder));
    }
  }
  before.empty() ? unsetenv("JITDUMPDIR") : setenv("JITDUMPDIR", before.c_str(), 1);
}

TEST(Jit, UnknownSymbolsAndBrokenKernelsAreOurErrors) {
  Jit jit(host_target());
  EXPECT_THROW(jit.lookup("nowhere"), InternalError);
  const KernelSource calls_out = {
      "calls_out", "", [](Emitter& e) {
        e.begin_kernel("calls_out", {});
        llvm::Module* module = e.ir().GetInsertBlock()->getModule();
        e.ir().CreateCall(module->getOrInsertFunction("getpid", e.i32_type()));
        e.end_kernel();
      }};
  EXPECT_THROW(jit.add({calls_out}), InternalError) << "symbols of the process must not be seen";
  const KernelSource unfinished = {"unfinished", "",
                                   [](Emitter& e) { e.begin_kernel("unfinished", {}); }};
  try {
    jit.add({unfinished});
    FAIL();
  } catch (const InternalError& error) {
    EXPECT_THAT(error.what(), HasSubstr("LLVM refuses the module unfinished"));
  }
}

TEST(Jit, TextOfAKernelForAnyTarget) {
  const KernelSource fused = {"fused", "", [](Emitter& e) {
                                const int lanes = e.lanes();
                                const auto frame = e.begin_kernel("fused", {{.written = true}});
                                llvm::Value* x =
                                    e.load(Storage::f32, frame.buffers[0], e.index(0), lanes);
                                llvm::Value* y = e.ir().CreateFAdd(e.ir().CreateFMul(x, x), x);
                                e.store(Storage::f32, y, frame.buffers[0], e.index(0));
                                e.end_kernel();
                              }};
  const std::string v4 = assembly(parse_target("x86-64-v4"), fused);
  EXPECT_THAT(v4, HasSubstr("zmm"));
  EXPECT_THAT(v4, HasSubstr("vmulps"));
  EXPECT_THAT(v4, testing::Not(HasSubstr("vfmadd"))) << "a*b+c must not be contracted";
  EXPECT_THAT(assembly(parse_target("x86-64-v3"), fused), testing::Not(HasSubstr("zmm")));
  EXPECT_THAT(llvm_ir(parse_target("x86-64-v3"), fused), HasSubstr("fmul <8 x float>"));
  EXPECT_THAT(llvm_ir(parse_target("x86-64-v4"), fused, false), HasSubstr("fmul <16 x float>"));
}

TEST(ObjectCache, SecondJitCompilesNothing) {
  TemporaryFolder folder;
  std::atomic<int> emissions{0};
  for (int round = 0; round < 3; ++round) {
    Jit jit(host_target(), {.cache = folder / "objects"});
    jit.add({scale_kernel("k", 7, &emissions, "scale by 7"), scale_kernel("free", 8, nullptr)});
    EXPECT_EQ(value_at_tile_2(jit.kernel("k")), 14);
    EXPECT_EQ(emissions, 1);
    EXPECT_EQ(jit.statistics().from_cache, round == 0 ? 0 : 1);
  }
  // Another key, another target or another symbol is another object.
  Jit other(parse_target("x86-64-v3"), {.cache = folder / "objects"});
  other.add({scale_kernel("k", 7, &emissions, "scale by 7")});
  Jit again(host_target(), {.cache = folder / "objects"});
  again.add({scale_kernel("k", 9, &emissions, "scale by 9"),
             scale_kernel("l", 7, &emissions, "scale by 7")});
  EXPECT_EQ(value_at_tile_2(again.kernel("k")), 18);
  EXPECT_EQ(emissions, 4);
}

TEST(ObjectCache, DamagedAndForeignFilesAreNotUsed) {
  TemporaryFolder folder;
  const std::string path = folder / "objects";
  ObjectCache cache(path, host_target());
  ASSERT_TRUE(cache.used());
  cache.store("key", "the object");
  EXPECT_EQ(cache.load("key"), "the object");
  EXPECT_EQ(cache.load("other"), "");
  struct stat status;
  ASSERT_EQ(stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700u);
  const fs::path file = fs::directory_iterator(path)->path();
  const std::string whole = [&] {
    std::ifstream stream(file, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(stream), {});
  }();
  for (size_t i = 0; i < whole.size(); i += 41) {
    std::string damaged = whole;
    damaged[i] ^= 1;
    std::ofstream(file, std::ios::binary) << damaged;
    ASSERT_EQ(cache.load("key"), "") << "byte " << i << " flipped";
    std::ofstream(file, std::ios::binary) << whole.substr(0, i);
    ASSERT_EQ(cache.load("key"), "") << "cut to " << i << " bytes";
  }
  fs::remove(file);
  ASSERT_EQ(mkfifo(file.c_str(), 0600), 0);
  EXPECT_EQ(cache.load("key"), "") << "a pipe";
  cache.store("key", "again");
  EXPECT_EQ(cache.load("key"), "again");
}

TEST(ObjectCache, AnotherCacheSizeOrNumberOfCoresIsAnotherMachine) {
  TemporaryFolder folder;
  const Target here = host_target();
  ObjectCache(folder / "objects", here).store("key", "the object");
  Target smaller = here, wider = here;
  smaller.l2_bytes /= 2;
  ++wider.cores;
  EXPECT_EQ(ObjectCache(folder / "objects", here).load("key"), "the object");
  EXPECT_EQ(ObjectCache(folder / "objects", smaller).load("key"), "");
  EXPECT_EQ(ObjectCache(folder / "objects", wider).load("key"), "");
}

TEST(ObjectCache, FolderOpenToOthersIsLeftAlone) {
  TemporaryFolder folder;
  fs::create_directory(folder / "open");
  chmod((folder / "open").c_str(), 0755);
  EXPECT_FALSE(ObjectCache(folder / "open", host_target()).used());
  fs::create_directory(folder / "mine");
  chmod((folder / "mine").c_str(), 0700);
  EXPECT_TRUE(ObjectCache(folder / "mine", host_target()).used());
  fs::create_symlink(folder / "mine", folder / "link");
  EXPECT_FALSE(ObjectCache(folder / "link", host_target()).used());
  std::ofstream(folder / "file") << "x";
  EXPECT_FALSE(ObjectCache(folder / "file", host_target()).used());
  EXPECT_FALSE(ObjectCache("", host_target()).used());
  EXPECT_TRUE(fs::is_empty(folder / "open"));
}

TEST(ObjectCache, EnvironmentChoosesTheFolder) {
  setenv("WEIR_CACHE", "off", 1);
  EXPECT_EQ(default_object_cache(), "");
  setenv("WEIR_CACHE", "/some/where", 1);
  EXPECT_EQ(default_object_cache(), "/some/where/objects");
  unsetenv("WEIR_CACHE");
  setenv("XDG_CACHE_HOME", "/shared/cache", 1);
  EXPECT_EQ(default_object_cache(), "/shared/cache/weir/objects");
  TemporaryFolder home;
  setenv("HOME", home.path().c_str(), 1);
  for (const char* ignored : {"relative/cache", ""}) {  // as its specification has it
    setenv("XDG_CACHE_HOME", ignored, 1);
    EXPECT_EQ(default_object_cache(), home / ".cache/weir/objects");
  }
  unsetenv("XDG_CACHE_HOME");
  EXPECT_EQ(default_object_cache(), home / ".cache/weir/objects");
  setenv("HOME", (home / "nobody").c_str(), 1);
  EXPECT_EQ(default_object_cache(), "");
  unsetenv("HOME");
  EXPECT_EQ(default_object_cache(), "");
  EXPECT_TRUE(fs::is_empty(home.path()));
}

TEST(ObjectCache, RemovesNothingButItsOwnObjects) {
  TemporaryFolder folder;
  chmod(folder.path().c_str(), 0700);
  const auto large = [&](const std::string& name, const std::string& start) {
    std::ofstream(folder / name) << start;
    fs::resize_file(folder / name, uintmax_t{600} << 20);
  };
  large(std::string(32, '0') + ".o", "weir object 1\n");
  large(std::string(32, '1') + ".o", "weir object 1\n");
  large(std::string(32, '2') + ".o",
        "\x7f"
        "ELF");
  large("mine.o",
        "\x7f"
        "ELF");
  EXPECT_TRUE(ObjectCache(folder.path(), host_target()).used());
  EXPECT_FALSE(fs::exists(folder / (std::string(32, '0') + ".o")) &&
               fs::exists(folder / (std::string(32, '1') + ".o")));
  EXPECT_TRUE(fs::exists(folder / (std::string(32, '2') + ".o")));
  EXPECT_TRUE(fs::exists(folder / "mine.o"));
}

}  // namespace
}  // namespace weir
