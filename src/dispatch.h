// The instruction set in use: the best of those built that this processor has, chosen once;
// FASTRNN_ISA=generic|avx2|avx512|neon asks for one.
#pragma once

#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace fastrnn {

std::vector<std::string> built_isas();      // in order of preference, the widest first
std::vector<std::string> supported_isas();  // of those, what this processor can run
// Of the active set. Throws std::runtime_error where FASTRNN_ISA names one that cannot run here.
const std::string& active_isa();
template <class Real>
const Kernels<Real>& kernels();
template <>
const Kernels<float>& kernels<float>();
template <>
const Kernels<double>& kernels<double>();
template <class Real>
const TrainingKernels<Real>& training_kernels();
template <>
const TrainingKernels<float>& training_kernels<float>();
template <>
const TrainingKernels<double>& training_kernels<double>();
// Of a set of supported_isas(), active or not; std::runtime_error for another.
const LimitKernels& limit_kernels(const std::string& isa);

}  // namespace fastrnn
