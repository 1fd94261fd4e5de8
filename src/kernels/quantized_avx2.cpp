#if !defined(__AVX2__) || !defined(__FMA__)
#error "compile this file with AVX2 and FMA (CMakeLists.txt)"
#endif
#define FASTRNN_TARGET avx2
#include "simd/words_avx2.h"
//
#include "kernels/quantized-inl.h"
