#define FASTRNN_TARGET generic
#include "simd/words_generic.h"
//
#include "kernels/quantized-inl.h"
