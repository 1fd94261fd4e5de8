#include "kernels/step.h"

#include "dispatch.h"

namespace fastrnn {
namespace {

const StepKernels& choose_steps() {
  const std::string& isa = active_isa();
  static const StepKernels none = {};
  const StepKernels* chosen = &none;
#ifdef FASTRNN_HAVE_AVX512
  if (isa == "avx512") chosen = &avx512::step_kernels;
#endif
#ifdef FASTRNN_HAVE_AVX2
  if (isa == "avx2") chosen = &avx2::step_kernels;
#endif
#ifdef FASTRNN_HAVE_NEON
  if (isa == "neon") chosen = &neon::step_kernels;
#endif
  return *chosen;
}

}  // namespace

const StepKernels& step_kernels() {
  static const StepKernels& chosen = choose_steps();
  return chosen;
}

}  // namespace fastrnn
