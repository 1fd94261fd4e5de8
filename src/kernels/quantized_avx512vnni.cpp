#if !defined(__AVX512F__) || !defined(__AVX512BW__) || !defined(__AVX512VNNI__)
#error "compile this file with AVX-512 F, BW and VNNI (CMakeLists.txt)"
#endif
#define FASTRNN_TARGET avx512vnni
#define FASTRNN_ADDS FASTRNN_INT8
#include "simd/words_avx512.h"
//
#include "kernels/quantized-inl.h"
