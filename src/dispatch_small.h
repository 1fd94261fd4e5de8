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

const SmallKernels& small_kernels();  // "none", without any, where none were built
// Those of the active set, and after them with each feature of this processor one more; none where
// none were built.
std::vector<SmallKernels> supported_small_kernels();

}  // namespace fastrnn
