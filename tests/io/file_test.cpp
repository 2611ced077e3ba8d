#include "io/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <csignal>

#include "io/byte_stream.h"
#include "io_test_util.h"

namespace weir {
namespace {

using testing::HasSubstr;

TEST(File, MapsAndReadsWhole) {
  TemporaryFolder folder;
  std::string content("a\0b\n", 4);
  put_file(folder / "x", content);
  put_file(folder / "empty", "");
  EXPECT_EQ(MappedFile(folder / "x").text(), content);
  EXPECT_EQ(read_file(folder / "x"), content);
  EXPECT_EQ(MappedFile(folder / "empty").size(), 0U);
  EXPECT_EQ(read_file(folder / "empty"), "");
  MappedFile first(folder / "x");
  MappedFile second(std::move(first));
  EXPECT_EQ(second.text(), content);
  first = std::move(second);
  EXPECT_EQ(first.text(), content);
  EXPECT_TRUE(file_exists(folder / "x"));
  EXPECT_FALSE(file_exists(folder.path()));
}

TEST(File, MemoryStandsForAFile) {
  std::string bytes("a\0b", 3);
  MappedFile file = MappedFile::from_memory("name", std::as_bytes(std::span(bytes)));
  bytes[0] = 'x';
  EXPECT_EQ(file.path(), "name");
  EXPECT_EQ(file.text(), std::string_view("a\0b", 3));
  MappedFile moved = std::move(file);
  file = MappedFile::from_memory("empty", {});
  EXPECT_EQ(moved.text().size(), 3U);
  EXPECT_EQ(file.size(), 0U);
}

TEST(File, MissingFileNamesTheNearest) {
  TemporaryFolder folder;
  put_file(folder / "model.safetensors", "");
  EXPECT_EQ(error_text([&] { MappedFile(folder / "model.safetensor"); }),
            "[file] cannot open " + (folder / "model.safetensor") +
                ": No such file or directory. Did you mean model.safetensors?");
  EXPECT_EQ(error_text([&] { read_file(folder / "no/x"); }),
            "[file] cannot open " + (folder / "no/x") + ": No such file or directory. The folder " +
                (folder / "no") + " does not exist.");
}

TEST(File, FolderAndDeviceAreRefused) {
  TemporaryFolder folder;
  EXPECT_EQ(error_text([&] { MappedFile m(folder.path()); }),
            "[file] cannot read " + folder.path() + ": it is a folder, a regular file is needed.");
  EXPECT_EQ(error_text([&] { read_file("/dev/null"); }),
            "[file] cannot read /dev/null: it is a device, pipe or socket, a regular file is "
            "needed. Write what it gives into a file first.");
}

// Opening a pipe waits until somebody writes into it.
TEST(File, APipeIsRefusedAtOnce) {
  TemporaryFolder folder;
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  std::filesystem::create_symlink("pipe", folder / "link");
  for (const char* name : {"pipe", "link"}) {
    const std::string message = "[file] cannot read " + (folder / name) + ": it is a device, pipe";
    EXPECT_THAT(error_text([&] { MappedFile m(folder / name); }), HasSubstr(message));
    EXPECT_THAT(error_text([&] { read_file(folder / name); }), HasSubstr(message));
    EXPECT_THAT(error_text([&] { ByteStream stream(folder / name); }), HasSubstr(message));
  }
}

// Names may have 255 bytes, and that of the part is longer than that of the file.
TEST(File, LongNamesAreWritten) {
  TemporaryFolder folder;
  std::string accents = "x";  // characters of two bytes, of which the cut keeps none by half
  while (accents.size() < 255) accents += "\u00e9";
  for (const std::string& name : {std::string(199, 'n'), std::string(201, 'n'),
                                  std::string(245, 'n'), std::string(255, 'n'), accents}) {
    write_file(folder / name, "first");
    AtomicFile part(folder / name);
    part.write("second");
    EXPECT_EQ(read_file(folder / name), "first");
    part.commit();
    EXPECT_EQ(read_file(folder / name), "second");
  }
}

// The part of a long name that a killed process has left goes as well; that of another name which
// begins the same stays.
TEST(File, PartsOfLongNamesAreTheirOwn) {
  TemporaryFolder folder;
  const std::string common(240, 'n');
  AtomicFile first(folder / (common + "1"));
  const auto before = folder.file_count();
  const pid_t child = fork();
  if (child == 0) {
    AtomicFile killed(folder / (common + "2"));
    raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_EQ(folder.file_count(), before + 1);
  write_file(folder / (common + "2"), "whole");
  EXPECT_EQ(folder.file_count(), before + 1) << "the file has come, its old part has gone";
  first.commit();
}

TEST(File, AtomicFileAppearsOnlyOnCommit) {
  TemporaryFolder folder;
  put_file(folder / "x", "old");
  {
    AtomicFile file(folder / "x");
    file.write("new");
    EXPECT_EQ(get_file(folder / "x"), "old");
  }
  EXPECT_EQ(get_file(folder / "x"), "old");
  EXPECT_EQ(folder.file_count(), 1U);
  {
    AtomicFile file(folder / "x");
    std::string large(1 << 20, 'z');
    file.write("????");
    file.write(large);
    file.write_at(0, std::as_bytes(std::span("HEAD", 4)));
    file.write("tail");
    file.commit();
    EXPECT_EQ(get_file(folder / "x"), "HEAD" + large + "tail");
  }
  EXPECT_EQ(folder.file_count(), 1U);
  EXPECT_EQ(error_text([&] { write_file(folder / "no/x", ""); }),
            "[file] cannot write " + (folder / "no/x") +
                ": No such file or directory. The folder " + (folder / "no") + " does not exist.");
}

// What a process that was killed has left of a file goes with the next writing of that file.
TEST(File, PartsOfKilledProcessesAreRemoved) {
  TemporaryFolder folder;
  const std::string path = folder / "out";
  const pid_t child = fork();
  if (child == 0) {
    AtomicFile file(path);
    file.write(std::string(1 << 20, 'x'));
    raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  ASSERT_EQ(folder.file_count(), 1U) << "the part of the killed process";
  EXPECT_FALSE(file_exists(path));
  write_file(path, "whole");
  EXPECT_EQ(read_file(path), "whole");
  EXPECT_EQ(folder.file_count(), 1U);
}

TEST(File, PartsOfOthersStay) {
  TemporaryFolder folder;
  const std::string path = folder / "out";
  const std::vector<std::string> others = {"out.tmp",       "out.tmp.1",      "out.tmp.1.",
                                           "out.tmp..1",    "out.tmp.1.2.3",  "out.tmp.notes",
                                           "out.tmp.12.a0", "other.tmp.12.0", "my-out.tmp.12.0"};
  for (const std::string& name : others) put_file(folder / name, "kept");
  std::filesystem::create_directory(folder / "out.tmp.3.0");
  put_file(folder / "stale", "kept");
  std::filesystem::create_symlink("stale", folder / "out.tmp.4.0");
  put_file(folder / "out.tmp.5.0", "left");
  // A file that is being written, by this process or another one, is locked.
  AtomicFile first(path);
  EXPECT_FALSE(file_exists(folder / "out.tmp.5.0"));
  first.write("first");
  const auto before = folder.file_count();
  write_file(path, "second");
  EXPECT_EQ(folder.file_count(), before + 1) << "out has come, and nothing has gone";
  for (const std::string& name : others) EXPECT_EQ(read_file(folder / name), "kept") << name;
  EXPECT_EQ(read_file(path), "second");
  first.commit();
  EXPECT_EQ(read_file(path), "first");
}

// In another container a process may have the number of this one.
TEST(File, APartOfTheSameNameIsNoObstacle) {
  TemporaryFolder folder;
  const std::string path = folder / "out";
  put_file(folder / "part", "of another");
  const int part = open((folder / "part").c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_EQ(flock(part, LOCK_EX), 0);
  for (int i = 0; i < 200; ++i)
    std::filesystem::create_hard_link(folder / "part",
                                      fmt::format("{}.tmp.{}.{}", path, getpid(), i));
  write_file(path, "whole");
  EXPECT_EQ(read_file(path), "whole");
  EXPECT_EQ(folder.file_count(), 202U);
  close(part);
  write_file(path, "again");
  EXPECT_EQ(folder.file_count(), 2U);
}

TEST(File, FailedWriteLeavesNothingBehind) {
  TemporaryFolder folder;
  std::filesystem::create_directory(folder / "x");
  EXPECT_THAT(error_text([&] { write_file(folder / "x", "content"); }),
              HasSubstr("[file] cannot write " + (folder / "x") + ": it is a folder"));
  EXPECT_EQ(folder.file_count(), 1U);
}

TEST(File, ALinkStaysAndItsTargetIsWritten) {
  TemporaryFolder folder;
  write_file(folder / "target", "old");
  std::filesystem::create_symlink("target", folder / "link");
  write_file(folder / "link", "new");
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link"));
  EXPECT_EQ(read_file(folder / "target"), "new");
}

}  // namespace
}  // namespace weir
