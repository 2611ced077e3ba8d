#pragma once
// Compiled objects kept on disk, so that the second start of the same program compiles nothing.
#include <string>
#include <string_view>

#include "support/target.h"

namespace weir {

/// Folder for compiled objects in support/cache_folder.h; "" when there is none.
std::string default_object_cache();

/// One file an object, named by the hash of (caller's key, target, LLVM version, build id of
/// codegen). A file carries its full key and a checksum of its content; what does not match is not
/// used. Problems with the disk never fail a compilation: they are logged once and the cache is
/// left unused. The least recently used objects go when all together are too large; no other file
/// in the folder is ever removed.
class ObjectCache {
 public:
  /// Creates the folder with mode 0700 if need be. The cache stays unused when `folder` is "", or
  /// is not a directory that belongs to this user with no access for others.
  ObjectCache(std::string folder, const Target& target);

  bool used() const { return !folder_.empty(); }
  /// The object stored under `key`, "" when there is none. Thread safe; so is store().
  std::string load(std::string_view key) const;
  /// Writes to a temporary file and renames it, so that a reader sees all of an object or none.
  void store(std::string_view key, std::string_view object) const;

 private:
  std::string full_key(std::string_view key) const;
  std::string path(std::string_view full_key) const;

  std::string folder_;
  std::string context_;  // target, LLVM version and build id
};

/// Hash of the sources that emit code, made at build time.
const char* codegen_build_id();

}  // namespace weir
