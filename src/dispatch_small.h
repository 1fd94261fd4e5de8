// The kernels for small weights in use: of the active instruction set (dispatch.h), or of one that adds
// to it what this processor has:
//   avx2    avxvnni
//   avx512  avx512vnni, avx512bf16 (both)
//   neon    neondot
// So FASTRNN_ISA caps these, too. int8 and bf16 give the same bits in all of them.
#pragma once

#include <string>
#include <vector>

#include "kernels/quantized.h"

namespace fastrnn {

const SmallKernels& small_kernels();
// All that can run here with as many lanes as the active set has, in order of preference.
std::vector<const SmallKernels*> supported_small_kernels();

}  // namespace fastrnn
