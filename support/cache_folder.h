#pragma once
// Where Weir keeps what it can make again: compiled kernels, tokenised text, tuned tiles.
#include <string>

namespace weir {

struct CacheFolder {
  std::string path;      ///< "": nothing is kept
  std::string variable;  ///< the environment variable that it comes from
};

/// $WEIR_CACHE; else $XDG_CACHE_HOME/weir, where that is an absolute path as its specification
/// demands; else $HOME/.cache/weir. None when WEIR_CACHE is "off", when no variable is set, and
/// when HOME is no folder, of which a warning tells once. Nothing is made here.
CacheFolder cache_folder();

/// `name` in the cache folder, "" when there is none.
std::string cache_subfolder(const std::string& name);

/// What a user can do about a cache folder that does not work, as a sentence for messages.
std::string cache_advice();

}  // namespace weir
