#if !defined(__aarch64__)
#error "NEON kernels are for 64-bit ARM"
#endif
#define FASTRNN_TARGET neon
#include "simd/words_neon.h"
//
#include "kernels/quantized-inl.h"
