#pragma once
// A page in a headless chromium that is told what to do through a pipe (the DevTools protocol).
#include <sys/types.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace weir::test {

class Browser {
 public:
  /// $WEIR_BROWSER, else the chromium on the PATH; "" where there is none.
  static std::string program();

  /// Starts it with one empty page. Whatever goes wrong here or below is a std::runtime_error.
  Browser();
  ~Browser();
  Browser(const Browser&) = delete;
  Browser& operator=(const Browser&) = delete;

  /// Of the window, in CSS pixels; a mobile one lays pages out as telephones do.
  void resize(int width, int height, bool mobile = false);
  /// "screen" or "print": which style rules hold.
  void set_media(const std::string& media);
  /// Loads a file and waits until `ready`, a JavaScript expression, is true.
  void open(const std::filesystem::path& file, const std::string& ready);
  /// The value of a JavaScript expression; promises are waited for.
  nlohmann::json evaluate(const std::string& expression);
  /// Of the whole page, as PNG.
  void write_screenshot(const std::filesystem::path& file);
  /// As the print dialogue makes it; the bytes are written and returned.
  std::string write_pdf(const std::filesystem::path& file);
  /// What pages threw and nobody caught.
  const std::vector<std::string>& uncaught() const { return uncaught_; }

 private:
  nlohmann::json call(const std::string& method, nlohmann::json parameters);
  nlohmann::json receive();
  void write_base64(const std::filesystem::path& file, const std::string& text, std::string* bytes);

  std::filesystem::path profile_;
  pid_t process_ = -1;
  int to_ = -1, from_ = -1;
  int64_t calls_ = 0;
  std::string session_, received_;
  std::vector<std::string> uncaught_;
};

}  // namespace weir::test
