#include "dispatch_small.h"

#include "dispatch.h"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace fastrnn {
namespace {

struct SmallTarget {
  const char* isa;  // of dispatch.h, to which it adds
  bool (*supported)();
  const SmallKernels* kernels;
};

[[maybe_unused]] bool always() { return true; }

#ifdef FASTRNN_SMALL_NEONDOT
bool has_dot_product() {
#if defined(__linux__)
  constexpr unsigned long asimddp = 1ul << 20;
  return getauxval(AT_HWCAP) & asimddp;
#else
  return true;  // every 64-bit processor of Apple's with macOS
#endif
}
#endif

// Of an instruction set first what has all formats, then what adds to it.
const SmallTarget small_targets[] = {
#ifdef FASTRNN_SMALL_AVX512
    {"avx512", always, &avx512::kernels_small},
#endif
#ifdef FASTRNN_SMALL_AVX512VNNI
    {"avx512", [] { return bool(__builtin_cpu_supports("avx512vnni")); },
     &avx512vnni::kernels_small},
#endif
#ifdef FASTRNN_SMALL_AVX512BF16
    {"avx512", [] { return bool(__builtin_cpu_supports("avx512bf16")); },
     &avx512bf16::kernels_small},
#endif
#ifdef FASTRNN_SMALL_AVX2
    {"avx2", always, &avx2::kernels_small},
#endif
#ifdef FASTRNN_SMALL_AVXVNNI
    {"avx2", [] { return bool(__builtin_cpu_supports("avxvnni")); }, &avxvnni::kernels_small},
#endif
#ifdef FASTRNN_SMALL_NEON
    {"neon", always, &neon::kernels_small},
#endif
#ifdef FASTRNN_SMALL_NEONDOT
    {"neon", has_dot_product, &neondot::kernels_small},
#endif
#ifdef FASTRNN_SMALL_GENERIC
    {"generic", always, &generic::kernels_small},
#endif
    {"", nullptr, nullptr},  // the end, and all there is where none are built
};

}  // namespace

std::vector<SmallKernels> supported_small_kernels() {
  std::vector<SmallKernels> found;
  for (const SmallTarget& target : small_targets)
    if (target.kernels && target.isa == active_isa() && target.supported())
      found.push_back(found.empty() ? *target.kernels : found.back().with(*target.kernels));
  return found;
}

const SmallKernels& small_kernels() {
  static const SmallKernels kernels = [] {
    const auto found = supported_small_kernels();
    return found.empty() ? SmallKernels{"none", 0, {}, {}, {}} : found.back();
  }();
  return kernels;
}

}  // namespace fastrnn
