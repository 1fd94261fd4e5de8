#define FASTRNN_TARGET generic
#include "simd/vec_generic.h"
//
#include "kernels/step-inl.h"
