#if !defined(__AVX2__) || !defined(__FMA__) || !defined(__AVXVNNI__)
#error "compile this file with AVX2, FMA and AVX-VNNI (CMakeLists.txt)"
#endif
#define FASTRNN_TARGET avxvnni
#define FASTRNN_ADDS FASTRNN_INT8
#include "simd/words_avx2.h"
//
#include "kernels/quantized-inl.h"
