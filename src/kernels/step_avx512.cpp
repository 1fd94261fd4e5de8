#if !defined(__AVX512F__) || !defined(__AVX512DQ__)
#error "compile this file with AVX-512 F and DQ (CMakeLists.txt)"
#endif
#define FASTRNN_TARGET avx512
#include "simd/vec_avx512.h"
//
#include "kernels/step-inl.h"
