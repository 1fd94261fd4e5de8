// Which rows are alive at which step, and which thread does what.
#pragma once

#include "memory.h"
#include "parallel.h"
#include "sequence/cell.h"

namespace fastrnn {

// A padded batch in processing order: rows sorted by length, the longest first, so that the rows
// alive at a processing step s are a prefix. Entry (s, j) is row j of the sorted batch at step s;
// entries are numbered s-major without gaps, and nothing is stored or computed for padding. The
// reverse direction runs over each row from its own last step: its step s is time length - 1 - s.
struct Rows {
  Index steps = 0, batch = 0;          // steps: of the longest row
  const Index* order = nullptr;        // [batch] row of the caller's batch
  const Index* length = nullptr;       // [batch] in sorted order
  const Index* first_entry = nullptr;  // [steps + 1]
  bool ragged = false;

  Index entries() const { return first_entry[steps]; }
  Index time(int direction, Index s, Index j) const {
    return direction == 0 ? s : length[j] - 1 - s;
  }
  // `order`: what longest_first gives for these lengths, or null: found here.
  static Rows make(Index steps, Index batch, const Index* lengths, const Index* order,
                   Workspace& workspace);
};

// The rows of a batch by falling length (null: all are equal), those of one length in their order.
const Index* longest_first(const Index* lengths, Index batch, Workspace& workspace);

// Threads form a grid: directions x parts of the rows x parts of the hidden units. Threads that
// share rows must meet at each step; threads that do not never meet.
struct Grid {
  int directions, row_parts, unit_parts;
  int members() const { return directions * row_parts * unit_parts; }
};

// Multiply-adds that a thread must have: about 3 microseconds, what waking a team costs.
constexpr double work_per_thread = 120e3;

// The rule for choosing the grid: see docs/design.md, "Threads". `limit` caps the members.
template <class Real>
Grid choose_grid(const Cell<Real>& cell, int directions, const Rows& rows, bool backward,
                 int limit);

// One member's place: sorted rows first, first + stride, ... (count of them), and hidden units.
struct Part {
  int direction, row_part, unit_part;
  Index first, stride, count;
  Index unit_begin, unit_end;      // begin is a multiple of unit_align; end too, or H
  Index output_begin, output_end;  // of the outputs; the same where the units are the output

  Index row(Index i) const { return first + i * stride; }
  // Rows of this part alive at step s, given that `n` were alive at an earlier one.
  Index alive(const Rows& rows, Index s, Index n) const {
    while (n > 0 && rows.length[row(n - 1)] <= s) --n;
    return n;
  }
};
template <class Real>
Part part_of(const Grid& grid, int member, const Rows& rows, const Cell<Real>& cell);

}  // namespace fastrnn
