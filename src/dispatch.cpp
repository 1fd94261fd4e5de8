#include "dispatch.h"

#include <cstdlib>
#include <stdexcept>

namespace fastrnn {
namespace {

struct Target {
  const char* name;
  bool (*supported)();
  const Kernels<float>* kernels_float;
  const Kernels<double>* kernels_double;
};

// __builtin_cpu_supports also asks whether the operating system saves the wide registers.
const Target targets[] = {
#ifdef FASTRNN_HAVE_AVX512
    {"avx512",
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
              __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
              __builtin_cpu_supports("fma");
     },
     &avx512::kernels_float, &avx512::kernels_double},
#endif
#ifdef FASTRNN_HAVE_AVX2
    {"avx2", [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); },
     &avx2::kernels_float, &avx2::kernels_double},
#endif
#ifdef FASTRNN_HAVE_NEON
    {"neon", [] { return true; }, &neon::kernels_float, &neon::kernels_double},
#endif
    {"generic", [] { return true; }, &generic::kernels_float, &generic::kernels_double},
};

std::string joined(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : ", ") + name;
  return out;
}

// A name that cannot be had is an error, never a quiet fallback: a forced run must be that run.
const Target& choose() {
  const char* asked = std::getenv("FASTRNN_ISA");
  for (const Target& target : targets)
    if ((!asked || !*asked || target.name == std::string(asked)) && target.supported())
      return target;
  throw std::runtime_error("FASTRNN_ISA: expected one of " + joined(supported_isas()) +
                           " on this machine, got '" + asked + "'");
}

const Target& active() {
  static const Target& target = choose();
  return target;
}

}  // namespace

std::vector<std::string> built_isas() {
  std::vector<std::string> names;
  for (const Target& target : targets) names.push_back(target.name);
  return names;
}

std::vector<std::string> supported_isas() {
  std::vector<std::string> names;
  for (const Target& target : targets)
    if (target.supported()) names.push_back(target.name);
  return names;
}

const std::string& active_isa() {
  static const std::string name = active().name;
  return name;
}

template <>
const Kernels<float>& kernels<float>() {
  return *active().kernels_float;
}
template <>
const Kernels<double>& kernels<double>() {
  return *active().kernels_double;
}

const Kernels<float>& kernels_of(const std::string& isa) {
  for (const Target& target : targets)
    if (isa == target.name && target.supported()) return *target.kernels_float;
  throw std::runtime_error("isa: expected one of " + joined(supported_isas()) +
                           " on this machine, got '" + isa + "'");
}

}  // namespace fastrnn
