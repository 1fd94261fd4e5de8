#if !defined(__AVX512F__) || !defined(__AVX512DQ__) || !defined(__AVX512BW__)
#error "compile this file with AVX-512 F, DQ and BW (CMakeLists.txt)"
#endif
#define FASTRNN_TARGET avx512
#include "simd/words_avx512.h"
//
#include "kernels/quantized-inl.h"
