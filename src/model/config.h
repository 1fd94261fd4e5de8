// A layer's configuration as fastrnn.save writes it, each entry read by its name and held to what the
// layer's constructor in Python takes.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "model/json.h"
#include "types.h"

namespace fastrnn {

constexpr double infinity = std::numeric_limits<double>::infinity();

class Config {
 public:
  // where: which layer it is, for messages ("layer 1 (LSTM)"). Throws Failure, as all others do.
  Config(std::string where, const json::Value& object);

  // Of an entry that is missing: `fallback`; no_default: an error.
  static constexpr std::int64_t no_default = -1;
  std::uint64_t size(const char* name, std::int64_t fallback = no_default, std::int64_t least = 1);
  bool flag(const char* name, bool fallback);
  double number(const char* name, double fallback, double least, double most);
  double limit(const char* name);  // above 0; infinite where null or missing
  // One of `choices` (ended by a null), as its position.
  int choice(const char* name, int fallback, const char* const* choices);
  Activation<float> activation(const char* name, Activation<float> fallback);  // also "prelu"
  std::vector<Activation<float>> activations(const char* name,
                                             std::vector<Activation<float>> fallback);
  // A probability, or, where `pair`, a list of two.
  std::vector<double> zoneout(bool pair);
  void dtype();  // float32, else FR_UNSUPPORTED

  // An entry of any value; marks it as known.
  std::optional<json::Value> entry(const char* name);
  void finish() const;  // an entry that nobody asked for is an error
  const std::string& where() const { return where_; }
  [[noreturn]] void wrong(const char* name, const std::string& expected,
                          const json::Value& got) const;

 private:
  double checked_number(const char* name, const json::Value& value, double least,
                        double most) const;
  Activation<float> checked_activation(const char* name, const json::Value& value,
                                       bool prelu) const;

  const std::string where_;
  const json::Value object_;
  std::vector<const char*> known_;
};

}  // namespace fastrnn
