// RTNeural's side of rtneural.cpp: one translation unit for each of its backends.
#pragma once

#include <memory>

#include "model_file.h"

// A model compiled for its exact size. run(): steps one after the other, each a call of forward(), which
// the compiler may inline.
struct Peer {
  virtual ~Peer() = default;
  virtual void run(const float* x, int steps, float* y) = 0;
};

// fast: with approximate functions.
std::unique_ptr<Peer> eigen_peer(const Weights& w, bool fast);
std::unique_ptr<Peer> xsimd_peer(const Weights& w, bool fast);
