#include "model/json.h"

#include <algorithm>
#include <cerrno>
#include <clocale>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "model/failure.h"

namespace fastrnn {

std::string quoted(std::string_view text) {
  constexpr std::size_t most = 80;
  std::string out = "'";
  for (const char c : text.substr(0, most)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f) {
      out += c;
    } else {
      constexpr const char* digits = "0123456789abcdef";
      out += {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
    }
  }
  return out + (text.size() > most ? "...'" : "'");
}

namespace json {
namespace {

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

int hex_digit(char c) {
  if (is_digit(c)) return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// Bytes of the UTF-8 character at p, 0 where there is none.
int utf8_length(const unsigned char* p, const unsigned char* end) {
  const unsigned first = *p;
  if (first < 0x80) return 1;
  const int length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || end - p < length) return 0;
  for (int i = 1; i < length; ++i)
    if ((p[i] & 0xc0) != 0x80) return 0;
  // Not the shortest form, surrogates, and what is past U+10FFFF.
  if ((first == 0xe0 && p[1] < 0xa0) || (first == 0xed && p[1] > 0x9f)) return 0;
  if ((first == 0xf0 && p[1] < 0x90) || (first == 0xf4 && p[1] > 0x8f)) return 0;
  return length;
}

void append_utf8(unsigned code, std::string& out) {
  const auto put = [&](unsigned byte) { out += static_cast<char>(byte); };
  if (code < 0x80) return put(code);
  if (code < 0x800) {
    put(0xc0 | code >> 6);
  } else {
    if (code < 0x10000) {
      put(0xe0 | code >> 12);
    } else {
      put(0xf0 | code >> 18);
      put(0x80 | (code >> 12 & 0x3f));
    }
    put(0x80 | (code >> 6 & 0x3f));
  }
  put(0x80 | (code & 0x3f));
}

// The following read checked text, and know that it is.

unsigned hex4(const char* p) {
  unsigned value = 0;
  for (int i = 0; i < 4; ++i) value = value << 4 | static_cast<unsigned>(hex_digit(p[i]));
  return value;
}

// What the escape whose backslash is at p stands for; returns what follows it.
const char* append_escape(const char* p, const char* end, std::string& out) {
  constexpr const char* letters = "bfnrt";
  const char letter = p[1];
  if (letter != 'u') {
    const char* found = std::strchr(letters, letter);
    out += found ? "\b\f\n\r\t"[found - letters] : letter;
    return p + 2;
  }
  unsigned code = hex4(p + 2);
  p += 6;
  if (code >> 10 == 0xd800 >> 10 && end - p >= 6 && p[0] == '\\' && p[1] == 'u') {
    const unsigned low = hex4(p + 2);
    if (low >> 10 == 0xdc00 >> 10) {
      code = 0x10000 + ((code & 0x3ff) << 10 | (low & 0x3ff));
      p += 6;
    }
  }
  append_utf8(code, out);
  return p;
}

// From its first quote to its last.
std::string decoded(std::string_view text) {
  std::string out;
  const char *p = text.data() + 1, *const end = text.data() + text.size() - 1;
  while (p < end) {
    const char* escape = std::find(p, end, '\\');
    out.append(p, escape);
    p = escape < end ? append_escape(escape, end, out) : end;
  }
  return out;
}

const char* skip_blanks(const char* p, const char* end) {
  while (p < end && is_blank(*p)) ++p;
  return p;
}
const char* skip_string(const char* p) {
  for (++p; *p != '"'; ++p)
    if (*p == '\\') ++p;
  return p + 1;
}
const char* skip_value(const char* p, const char* end, int* depth = nullptr) {
  if (*p == '"') return skip_string(p);
  if (*p != '{' && *p != '[') {
    while (p < end && !is_blank(*p) && *p != ',' && *p != ']' && *p != '}') ++p;
    return p;
  }
  int open = 0;
  do {
    if (*p == '"') {
      p = skip_string(p);
      continue;
    }
    if (*p == '{' || *p == '[') ++open;
    if (*p == '}' || *p == ']') --open;
    if (depth) *depth = std::max(*depth, open);
    ++p;
  } while (open > 0);
  return p;
}

// Holds a text to the grammar. Containers that are open lie on a stack of its own.
class Checker {
 public:
  Checker(const char* what, std::string_view text, int max_depth)
      : what_(what),
        begin_(text.data()),
        at_(begin_),
        end_(begin_ + text.size()),
        max_depth_(max_depth) {}

  void run() {
    for (;;) {  // a value, or the beginning of one
      blanks();
      if (next() == '{' || next() == '[') {
        open_container();
        if (next() != closing()) {
          if (open_.back().object) name();
          continue;
        }
      } else {
        scalar();
      }
      if (all_ended()) return;
    }
  }

 private:
  struct Container {
    bool object;
    std::vector<std::string> names;
  };

  void open_container() {
    if (open_.size() == static_cast<std::size_t>(max_depth_))
      wrong("nested too deeply (more than " + std::to_string(max_depth_) + " levels)");
    open_.push_back({*at_++ == '{', {}});
    blanks();
  }

  // After a value or an opening bracket: closes what ends. Returns whether that was the whole text.
  bool all_ended() {
    for (;;) {
      blanks();
      if (open_.empty()) {
        if (at_ < end_) expected("its end");
        return true;
      }
      if (next() == ',') {
        ++at_;
        if (open_.back().object) name();
        return false;
      }
      if (next() != closing()) expected(std::string("',' or '") + closing() + "'");
      close();
    }
  }
  char closing() const { return open_.back().object ? '}' : ']'; }
  void close() {
    std::vector<std::string>& names = open_.back().names;
    std::sort(names.begin(), names.end());
    const auto twice = std::adjacent_find(names.begin(), names.end());
    if (twice != names.end()) wrong("the name " + quoted(*twice) + " twice in one object");
    open_.pop_back();
    ++at_;
  }

  void name() {
    blanks();
    const char* start = at_;
    string();
    open_.back().names.push_back(decoded({start, static_cast<std::size_t>(at_ - start)}));
    blanks();
    if (next() != ':') expected("':'");
    ++at_;
  }

  void scalar() {
    const char c = next();
    if (c == '"') return string();
    if (c == '-' || is_digit(c)) return number();
    for (const std::string_view word : {"null", "true", "false"})
      if (std::string_view(at_, left()).substr(0, word.size()) == word) {
        at_ += word.size();
        return;
      }
    expected("a value");
  }

  void number() {
    if (next() == '-') ++at_;
    if (next() == '0')
      ++at_;
    else
      digits();
    if (next() == '.') {
      ++at_;
      digits();
    }
    if (next() != 'e' && next() != 'E') return;
    ++at_;
    if (next() == '+' || next() == '-') ++at_;
    digits();
  }
  void digits() {
    if (!is_digit(next())) expected("a digit");
    while (is_digit(next())) ++at_;
  }

  void string() {
    if (next() != '"') expected("'\"'");
    for (++at_; next() != '"';) {
      if (static_cast<unsigned char>(next()) < 0x20) expected("a string's end");
      if (next() == '\\') {
        escape();
        continue;
      }
      const int length = utf8_length(reinterpret_cast<const unsigned char*>(at_),
                                     reinterpret_cast<const unsigned char*>(end_));
      if (length == 0) expected("UTF-8");
      at_ += length;
    }
    ++at_;
  }
  void escape() {
    ++at_;
    const char letter = next();
    if (letter == '\0' || !std::strchr("\"\\/bfnrtu", letter)) expected("an escape");
    ++at_;
    if (letter != 'u') return;
    for (int i = 0; i < 4; ++i, ++at_)
      if (hex_digit(next()) < 0) expected("a hexadecimal digit");
  }

  void blanks() { at_ = skip_blanks(at_, end_); }
  std::size_t left() const { return static_cast<std::size_t>(end_ - at_); }
  char next() const { return at_ < end_ ? *at_ : '\0'; }  // no token has a NUL
  [[noreturn]] void expected(const std::string& what) const {
    wrong("expected " + what + ", got " + (at_ < end_ ? quoted({at_, 1}) : "the text's end"));
  }
  [[noreturn]] void wrong(const std::string& message) const {
    fail_model(std::string(what_) + " is no JSON: byte " + std::to_string(at_ - begin_) + ": " +
               message);
  }

  const char* const what_;
  const char* const begin_;
  const char* at_;
  const char* const end_;
  const int max_depth_;
  std::vector<Container> open_;
};

std::string_view between(const char* begin, const char* end) {
  return {begin, static_cast<std::size_t>(end - begin)};
}

}  // namespace

Value Value::parse(const char* what, std::string_view text, int max_depth) {
  Checker(what, text, max_depth).run();
  const char *end = text.data() + text.size(), *begin = skip_blanks(text.data(), end);
  return Value(between(begin, skip_value(begin, end)));
}

std::optional<bool> Value::boolean() const {
  if (text_[0] != 't' && text_[0] != 'f') return std::nullopt;
  return text_[0] == 't';
}

std::optional<std::int64_t> Value::integer() const {
  const bool negative = text_[0] == '-';
  std::uint64_t value = 0;
  for (const char c : text_.substr(negative)) {
    if (!is_digit(c) || value > (INT64_MAX - static_cast<std::uint64_t>(c - '0')) / 10)
      return std::nullopt;
    value = value * 10 + static_cast<std::uint64_t>(c - '0');
  }
  return negative ? -static_cast<std::int64_t>(value) : static_cast<std::int64_t>(value);
}

std::optional<double> Value::number() const {
  if (text_[0] != '-' && !is_digit(text_[0])) return std::nullopt;
  std::string token(text_);
  // strtod takes the decimal point of the program's locale.
  const std::size_t point = token.find('.');
  if (point != std::string::npos) token.replace(point, 1, std::localeconv()->decimal_point);
  const double value = std::strtod(token.c_str(), nullptr);
  if (!std::isfinite(value)) return std::nullopt;
  return value;
}

std::optional<std::string> Value::string() const {
  if (!is_string()) return std::nullopt;
  return decoded(text_);
}

int Value::depth() const {
  int depth = 0;
  skip_value(text_.data(), text_.data() + text_.size(), &depth);
  return depth;
}

std::optional<Value> Value::find(std::string_view name) const {
  if (!is_object()) return std::nullopt;
  for (Items items(*this); items.next();)
    if (items.name() == name) return items.value();
  return std::nullopt;
}

Items::Items(const Value& container)
    : at_(container.text_.data() + 1),
      end_(container.text_.data() + container.text_.size() - 1),
      object_(container.is_object()),
      value_(container) {}

bool Items::next() {
  at_ = skip_blanks(at_, end_);
  if (at_ < end_ && *at_ == ',') at_ = skip_blanks(at_ + 1, end_);
  if (at_ >= end_) return false;
  if (object_) {
    const char* start = at_;
    at_ = skip_string(at_);
    name_ = decoded(between(start, at_));
    at_ = skip_blanks(skip_blanks(at_, end_) + 1, end_);  // the colon
  }
  const char* start = at_;
  at_ = skip_value(at_, end_);
  value_ = Value(between(start, at_));
  return true;
}

}  // namespace json
}  // namespace fastrnn
