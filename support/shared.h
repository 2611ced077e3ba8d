#pragma once
// Values that never change and are copied often: copies share one memory.
#include <algorithm>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace weir {

/// A list that is read like a const std::vector. An empty one has no memory.
template <typename T>
class SharedList {
 public:
  using value_type = T;
  using const_iterator = typename std::vector<T>::const_iterator;

  SharedList() = default;
  // Not explicit: a list is written as a vector is.
  SharedList(std::vector<T> items)
      : items_(items.empty() ? nullptr : std::make_shared<const std::vector<T>>(std::move(items))) {
  }
  SharedList(std::initializer_list<T> items) : SharedList(std::vector<T>(items)) {}

  operator const std::vector<T>&() const { return list(); }
  const std::vector<T>& list() const {
    static const std::vector<T> none;
    return items_ ? *items_ : none;
  }
  bool empty() const { return !items_; }
  size_t size() const { return items_ ? items_->size() : 0; }
  const T& operator[](size_t i) const { return (*items_)[i]; }
  const T& at(size_t i) const { return list().at(i); }
  const T& front() const { return items_->front(); }
  const T& back() const { return items_->back(); }
  const_iterator begin() const { return list().begin(); }
  const_iterator end() const { return list().end(); }

  friend bool operator==(const SharedList& a, const SharedList& b) {
    return a.items_ == b.items_ || a.list() == b.list();
  }

 private:
  std::shared_ptr<const std::vector<T>> items_;
};

/// A text, likewise.
class SharedText {
 public:
  SharedText() = default;
  SharedText(std::string text)
      : text_(text.empty() ? nullptr : std::make_shared<const std::string>(std::move(text))) {}
  SharedText(const char* text) : SharedText(std::string(text)) {}

  operator const std::string&() const { return text(); }
  const std::string& text() const {
    static const std::string none;
    return text_ ? *text_ : none;
  }
  bool empty() const { return !text_; }

  friend bool operator==(const SharedText& a, const SharedText& b) {
    return a.text_ == b.text_ || a.text() == b.text();
  }

 private:
  std::shared_ptr<const std::string> text_;
};

}  // namespace weir
