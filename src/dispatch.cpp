#include "dispatch.h"

#include <cstdlib>
#include <stdexcept>

namespace fastrnn {
namespace {

struct Target {
  const char* name;
  bool (*supported)();
};

// __builtin_cpu_supports also asks whether the operating system saves the wide registers.
const Target targets[] = {
#ifdef FASTRNN_HAVE_AVX512
    {"avx512",
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
              __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
              __builtin_cpu_supports("fma");
     }},
#endif
#ifdef FASTRNN_HAVE_AVX2
    {"avx2", [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }},
#endif
#ifdef FASTRNN_HAVE_NEON
    {"neon", [] { return true; }},
#endif
#ifdef FASTRNN_HAVE_GENERIC
    {"generic", [] { return true; }},
#endif
};

// A table of each target, in the same order. Each kind of table stands in an array of its own, as what
// an array names is linked: a program that streams float32 has nothing of float64 and of training.
#ifdef FASTRNN_HAVE_AVX512
#define FASTRNN_AVX512(table) &avx512::table,
#else
#define FASTRNN_AVX512(table)
#endif
#ifdef FASTRNN_HAVE_AVX2
#define FASTRNN_AVX2(table) &avx2::table,
#else
#define FASTRNN_AVX2(table)
#endif
#ifdef FASTRNN_HAVE_NEON
#define FASTRNN_NEON(table) &neon::table,
#else
#define FASTRNN_NEON(table)
#endif
#ifdef FASTRNN_HAVE_GENERIC
#define FASTRNN_GENERIC(table) &generic::table,
#else
#define FASTRNN_GENERIC(table)
#endif
#define FASTRNN_EACH(table) \
  {FASTRNN_AVX512(table) FASTRNN_AVX2(table) FASTRNN_NEON(table) FASTRNN_GENERIC(table)}
const Kernels<float>* const kernels_float[] = FASTRNN_EACH(kernels_float);
const Kernels<double>* const kernels_double[] = FASTRNN_EACH(kernels_double);
const TrainingKernels<float>* const training_float[] = FASTRNN_EACH(training_float);
const TrainingKernels<double>* const training_double[] = FASTRNN_EACH(training_double);
const LimitKernels* const limits[] = FASTRNN_EACH(limits);

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
  if (!asked || !*asked)
    throw std::runtime_error("expected a processor with one of " + joined(built_isas()));
  throw std::runtime_error("FASTRNN_ISA: expected one of " + joined(supported_isas()) +
                           " on this machine, got '" + asked + "'");
}

// Its index in the arrays.
std::ptrdiff_t active() {
  static const std::ptrdiff_t index = &choose() - targets;
  return index;
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
  static const std::string name = targets[active()].name;
  return name;
}

template <>
const Kernels<float>& kernels<float>() {
  return *kernels_float[active()];
}
template <>
const Kernels<double>& kernels<double>() {
  return *kernels_double[active()];
}
template <>
const TrainingKernels<float>& training_kernels<float>() {
  return *training_float[active()];
}
template <>
const TrainingKernels<double>& training_kernels<double>() {
  return *training_double[active()];
}

const LimitKernels& limit_kernels(const std::string& isa) {
  for (const Target& target : targets)
    if (isa == target.name && target.supported()) return *limits[&target - targets];
  throw std::runtime_error("isa: expected one of " + joined(supported_isas()) +
                           " on this machine, got '" + isa + "'");
}

}  // namespace fastrnn
