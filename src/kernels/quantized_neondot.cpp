#if !defined(__aarch64__) || !defined(__ARM_FEATURE_DOTPROD)
#error "compile this file for 64-bit ARM with its dot product (CMakeLists.txt)"
#endif
#define FASTRNN_TARGET neondot
#define FASTRNN_ADDS FASTRNN_INT8
#include "simd/words_neon.h"
//
#include "kernels/quantized-inl.h"
