#include "kernels/step.h"

#include "dispatch.h"

namespace fastrnn {
namespace {

const StepKernels& choose_steps() {
  const std::string& isa = active_isa();
#ifdef FASTRNN_HAVE_AVX512
  if (isa == "avx512") return avx512::step_kernels;
#endif
#ifdef FASTRNN_HAVE_AVX2
  if (isa == "avx2") return avx2::step_kernels;
#endif
#ifdef FASTRNN_HAVE_NEON
  if (isa == "neon") return neon::step_kernels;
#endif
  static const StepKernels none = {};
  static_cast<void>(isa);
  return none;
}

}  // namespace

const StepKernels& step_kernels() {
  static const StepKernels& chosen = choose_steps();
  return chosen;
}

}  // namespace fastrnn
