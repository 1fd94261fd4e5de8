#if !defined(__AVX512F__) || !defined(__AVX512VNNI__) || !defined(__AVX512BF16__)
#error "compile this file with AVX-512 F, VNNI and BF16 (CMakeLists.txt)"
#endif
#define FASTRNN_TARGET avx512bf16
#define FASTRNN_ADDS FASTRNN_BF16_DOT
#include "simd/words_avx512.h"
//
#include "kernels/quantized-inl.h"
