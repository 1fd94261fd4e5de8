#include "model/config.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "model/failure.h"

namespace fastrnn {
namespace {

constexpr std::int64_t max_size = 2147483647;  // tokens are int32

// Functions of one value, with the defaults of ONNX for alpha and beta, as far as they have them.
struct NamedFunction {
  const char* name;
  Function function;
  int numbers;
  double defaults[2];
};
constexpr NamedFunction functions[] = {
    {"sigmoid", Function::sigmoid, 0, {}},
    {"tanh", Function::tanh, 0, {}},
    {"relu", Function::relu, 0, {}},
    {"affine", Function::affine, 2, {1, 0}},
    {"leaky_relu", Function::leaky_relu, 1, {0.01}},
    {"thresholded_relu", Function::thresholded_relu, 1, {1}},
    {"scaled_tanh", Function::scaled_tanh, 2, {1, 1}},
    {"hard_sigmoid", Function::hard_sigmoid, 2, {0.2, 0.5}},
    {"elu", Function::elu, 1, {1}},
    {"softsign", Function::softsign, 0, {}},
    {"softplus", Function::softplus, 0, {}},
};

std::string shown(double value) {
  return value == std::floor(value) && std::fabs(value) < 1e15
             ? std::to_string(static_cast<std::int64_t>(value))
             : std::to_string(value);
}

}  // namespace

Config::Config(std::string where, const json::Value& object)
    : where_(std::move(where)), object_(object) {
  if (!object.is_object())
    fail_model(where_ + ": config: expected an object, got " + quoted(object.text()));
}

void Config::wrong(const char* name, const std::string& expected, const json::Value& got) const {
  fail_model(where_ + ": " + name + ": expected " + expected + ", got " + quoted(got.text()));
}

std::optional<json::Value> Config::entry(const char* name) {
  known_.push_back(name);
  return object_.find(name);
}

void Config::finish() const {
  for (json::Items items(object_); items.next();)
    if (std::find(known_.begin(), known_.end(), items.name()) == known_.end())
      fail_model(where_ + ": config: unexpected entry " + quoted(items.name()));
}

std::uint64_t Config::size(const char* name, std::int64_t fallback, std::int64_t least) {
  const std::optional<json::Value> value = entry(name);
  if (!value && fallback != no_default) return static_cast<std::uint64_t>(fallback);
  if (!value) fail_model(where_ + ": " + name + ": missing");
  const std::optional<std::int64_t> size = value->integer();
  if (!size || *size < least || *size > max_size)
    wrong(name, "an integer from " + std::to_string(least) + " to " + std::to_string(max_size),
          *value);
  return static_cast<std::uint64_t>(*size);
}

bool Config::flag(const char* name, bool fallback) {
  const std::optional<json::Value> value = entry(name);
  if (!value) return fallback;
  const std::optional<bool> flag = value->boolean();
  if (!flag) wrong(name, "true or false", *value);
  return *flag;
}

double Config::checked_number(const char* name, const json::Value& value, double least,
                              double most) const {
  const std::optional<double> number = value.number();
  if (!number || *number < least || *number > most) {
    std::string expected = "a number";
    if (most < infinity)
      expected += " from " + shown(least) + " to " + shown(most);
    else if (least > -infinity)
      expected += " of at least " + shown(least);
    wrong(name, expected, value);
  }
  return *number;
}

double Config::number(const char* name, double fallback, double least, double most) {
  const std::optional<json::Value> value = entry(name);
  return value ? checked_number(name, *value, least, most) : fallback;
}

double Config::limit(const char* name) {
  const std::optional<json::Value> value = entry(name);
  if (!value || value->is_null()) return infinity;
  const double limit = checked_number(name, *value, 0, infinity);
  if (limit == 0) wrong(name, "a number above 0", *value);
  return limit;
}

int Config::choice(const char* name, int fallback, const char* const* choices) {
  const std::optional<json::Value> value = entry(name);
  if (!value) return fallback;
  std::string expected;
  for (int i = 0; choices[i]; ++i) {
    if (value->string() == choices[i]) return i;
    expected += (i ? ", " : "one of ") + std::string(choices[i]);
  }
  wrong(name, expected, *value);
}

Activation<float> Config::checked_activation(const char* name, const json::Value& value,
                                             bool prelu) const {
  std::vector<json::Value> parts;
  if (value.is_array())
    for (json::Items items(value); items.next() && parts.size() < 4;)
      parts.push_back(items.value());
  else
    parts.push_back(value);
  const std::string function = parts.empty() ? "" : parts[0].string().value_or("");
  if (parts.size() == 1 && function == "identity") return {Function::affine, 1, 0};
  if (parts.size() == 1 && function == "prelu" && prelu) return {Function::prelu, 0, 0};
  for (const NamedFunction& known : functions) {
    if (function != known.name || parts.size() > 1 + static_cast<std::size_t>(known.numbers))
      continue;
    double numbers[2] = {known.defaults[0], known.defaults[1]};
    for (std::size_t i = 1; i < parts.size(); ++i)
      numbers[i - 1] = checked_number(name, parts[i], -infinity, infinity);
    return {known.function, static_cast<float>(numbers[0]), static_cast<float>(numbers[1])};
  }
  wrong(name, "a function, or one with its numbers", value);
}

Activation<float> Config::activation(const char* name, Activation<float> fallback) {
  const std::optional<json::Value> value = entry(name);
  return value ? checked_activation(name, *value, true) : fallback;
}

std::vector<Activation<float>> Config::activations(const char* name,
                                                   std::vector<Activation<float>> fallback) {
  const std::optional<json::Value> value = entry(name);
  if (!value) return fallback;
  std::vector<Activation<float>> out;
  if (value->is_array())
    for (json::Items items(*value); items.next() && out.size() <= fallback.size();)
      out.push_back(checked_activation(name, items.value(), false));
  if (out.size() != fallback.size())
    wrong(name, "a list of " + std::to_string(fallback.size()) + " functions", *value);
  return out;
}

std::vector<double> Config::zoneout(bool pair) {
  const std::optional<json::Value> value = entry("zoneout");
  if (!value) return {0, 0};
  if (!value->is_array()) {
    const double both = checked_number("zoneout", *value, 0, 1);
    return {both, both};
  }
  std::vector<double> out;
  for (json::Items items(*value); pair && items.next() && out.size() < 3;)
    out.push_back(checked_number("zoneout", items.value(), 0, 1));
  if (out.size() != 2) wrong("zoneout", pair ? "a number or a list of two" : "a number", *value);
  return out;
}

void Config::dtype() {
  const std::optional<json::Value> value = entry("dtype");
  if (!value || value->string() == "float32") return;
  if (value->string() == "float64")
    fail(FR_UNSUPPORTED, where_ + ": dtype: expected a float32 model, got one of float64");
  wrong("dtype", "'float32'", *value);
}

}  // namespace fastrnn
