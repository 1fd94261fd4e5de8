// JSON (RFC 8259), strictly: what is not in its grammar is refused, and so are two equal names in one
// object. Nothing is built: a Value is a part of the checked text, read where it stands. So the memory
// is bounded by the text's size (the names of the objects that are open), and the stack by nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace fastrnn::json {

class Value {
 public:
  // The whole text, checked; it must live as long as its values. Throws Failure, which says that `what`
  // is no JSON: containers nested more than max_depth deep, invalid UTF-8 or another error.
  static Value parse(const char* what, std::string_view text, int max_depth);

  bool is_null() const { return text_[0] == 'n'; }
  bool is_string() const { return text_[0] == '"'; }
  bool is_array() const { return text_[0] == '['; }
  bool is_object() const { return text_[0] == '{'; }
  // None where it is of another type, or cannot be held: an integer beyond int64, a number that is
  // not finite as a double. An integer has neither fraction nor exponent.
  std::optional<bool> boolean() const;
  std::optional<std::int64_t> integer() const;
  std::optional<double> number() const;
  // Without escapes, as UTF-8 (a lone surrogate as its three bytes, which are no UTF-8).
  std::optional<std::string> string() const;

  std::string_view text() const { return text_; }
  int depth() const;  // of containers: 0 of a scalar
  // The member of an object of that name.
  std::optional<Value> find(std::string_view name) const;

 private:
  friend class Items;
  explicit Value(std::string_view text) : text_(text) {}
  std::string_view text_;
};

// The elements of an array, or the members of an object, one after the other:
//   for (Items items(value); items.next();) use(items.name(), items.value());
class Items {
 public:
  explicit Items(const Value& container);
  bool next();
  const std::string& name() const { return name_; }  // of an object's member
  const Value& value() const { return value_; }

 private:
  const char *at_, *end_;
  bool object_;
  std::string name_;
  Value value_;
};

}  // namespace fastrnn::json
