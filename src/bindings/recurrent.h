// What training and inference of recurrent layers share.
#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "bindings/arrays.h"
#include "sequence/layer.h"

namespace fastrnn::bindings {

// Asks Python for Ctrl-C, at most ten times a second.
class SignalCheck {
 public:
  Interrupt interrupt() { return {&SignalCheck::asked, this}; }

 private:
  static bool asked(void* context) {
    auto& self = *static_cast<SignalCheck*>(context);
    const auto now = std::chrono::steady_clock::now();
    if (now - self.last_ < std::chrono::milliseconds(100)) return false;
    self.last_ = now;
    py::gil_scoped_acquire lock;
    return PyErr_CheckSignals() != 0;
  }
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

template <class Real>
using Cells = std::vector<std::shared_ptr<Cell<Real>>>;

// Those of the directions of one layer.
template <class Real>
Cells<Real> cells_of(const py::tuple& objects) {
  Cells<Real> cells;
  for (const py::handle& object : objects)
    cells.push_back(py::cast<std::shared_ptr<Cell<Real>>>(object));
  if (cells.empty() || cells.size() > 2) throw py::value_error("cells: expected one or two");
  for (const auto& cell : cells)
    if (cell->kind != cells[0]->kind || cell->input_size != cells[0]->input_size ||
        cell->hidden_size != cells[0]->hidden_size || cell->output_size != cells[0]->output_size ||
        cell->general != cells[0]->general || cell->training != cells[0]->training)
      throw py::value_error("cells: expected two of one kind and size");
  return cells;
}

}  // namespace fastrnn::bindings
