#include "sequence/plan.h"

#include <algorithm>

namespace fastrnn {

const Index* longest_first(const Index* lengths, Index batch, Workspace& workspace) {
  Index* order = workspace.take<Index>(batch);
  for (Index b = 0; b < batch; ++b) order[b] = b;
  if (lengths) {
    // The position decides between equal lengths: std::stable_sort would allocate.
    std::sort(order, order + batch, [lengths](Index a, Index b) {
      return lengths[a] != lengths[b] ? lengths[a] > lengths[b] : a < b;
    });
  }
  return order;
}

Rows Rows::make(Index steps, Index batch, const Index* lengths, const Index* order,
                Workspace& workspace) {
  Rows rows;
  if (!order) order = longest_first(lengths, batch, workspace);
  Index* length = workspace.take<Index>(batch);
  if (lengths && batch > 0) rows.ragged = lengths[order[batch - 1]] != lengths[order[0]];
  for (Index j = 0; j < batch; ++j) length[j] = lengths ? lengths[order[j]] : steps;
  rows.steps = batch > 0 ? length[0] : 0;
  Index* first_entry = workspace.take<Index>(rows.steps + 1);
  first_entry[0] = 0;
  Index alive = batch;
  for (Index s = 0; s < rows.steps; ++s) {
    while (alive > 0 && length[alive - 1] <= s) --alive;
    first_entry[s + 1] = first_entry[s] + alive;
  }
  rows.batch = batch;
  rows.order = order;
  rows.length = length;
  rows.first_entry = first_entry;
  return rows;
}

namespace {

// Parts of hidden units begin at multiples of this: whole groups of every cell, and whole panels of
// the transposed product, so that a thread writes the part of d_h that it reads in the next step.
Index unit_align(int lanes) { return plain_width * lanes; }

Index unit_parts(Index units, int lanes) {
  return (units + unit_align(lanes) - 1) / unit_align(lanes);
}

// Where part `index` of `parts` begins.
Index unit_begin(Index units, int lanes, int index, int parts) {
  return std::min(units, unit_parts(units, lanes) * index / parts * unit_align(lanes));
}

}  // namespace

template <class Real>
Grid choose_grid(const Cell<Real>& cell, int directions, const Rows& rows, bool backward,
                 int limit) {
  // Multiply-adds: all of them, and those of one row in the recurrent product of one step.
  const double gates = static_cast<double>(cell.hidden_size) * gate_count(cell.kind);
  const double recurrent =
      gates * static_cast<double>(cell.kind == CellKind::indrnn ? 1 : cell.output_size);
  const double row_step = recurrent + gates * static_cast<double>(cell.input_size);
  const double work =
      row_step * static_cast<double>(rows.entries()) * directions * (backward ? 2 : 1);
  const int affordable = static_cast<int>(std::min<double>(limit, work / work_per_thread));
  if (affordable <= 1) return {1, 1, 1};

  Grid grid{directions == 2 ? 2 : 1, 1, 1};
  const int members = affordable / grid.directions;
  const int by_rows = static_cast<int>(std::min<Index>(members, rows.batch));
  // Enough rows to fill tiles on each thread: threads never meet.
  if (rows.batch >= static_cast<Index>(members) * cell.kernels.row_tile)
    return {grid.directions, by_rows, 1};
  // Few rows: each thread streams its share of the weights, and all meet once a step. Worth it where
  // a thread's share of a step, bound by the bytes of its weights, costs more than the meeting.
  constexpr double bytes_per_meeting = 16e3;
  const double step_bytes = recurrent * sizeof(Real);
  const Index parts = unit_parts(cell.hidden_size, cell.kernels.lanes);
  const double by_units = std::min(
      {static_cast<double>(members), static_cast<double>(parts), step_bytes / bytes_per_meeting});
  // Layer normalisation takes sums over all units of a row.
  if (!cell.normalizes && by_units >= 2 && by_units >= by_rows)
    return {grid.directions, 1, static_cast<int>(by_units)};
  return {grid.directions, by_rows, 1};
}

template <class Real>
Part part_of(const Grid& grid, int member, const Rows& rows, const Cell<Real>& cell) {
  Part part;
  part.unit_part = member % grid.unit_parts;
  part.row_part = member / grid.unit_parts % grid.row_parts;
  part.direction = member / grid.unit_parts / grid.row_parts;
  if (rows.ragged) {  // dealt out like cards, as neighbours have similar lengths
    part.first = part.row_part;
    part.stride = grid.row_parts;
    part.count = (rows.batch - part.row_part + grid.row_parts - 1) / grid.row_parts;
  } else {
    part.first = rows.batch * part.row_part / grid.row_parts;
    part.stride = 1;
    part.count = rows.batch * (part.row_part + 1) / grid.row_parts - part.first;
  }
  const int lanes = cell.kernels.lanes, index = part.unit_part, parts = grid.unit_parts;
  part.unit_begin = unit_begin(cell.hidden_size, lanes, index, parts);
  part.unit_end = unit_begin(cell.hidden_size, lanes, index + 1, parts);
  part.output_begin = unit_begin(cell.output_size, lanes, index, parts);
  part.output_end = unit_begin(cell.output_size, lanes, index + 1, parts);
  return part;
}

template Grid choose_grid(const Cell<float>&, int, const Rows&, bool, int);
template Grid choose_grid(const Cell<double>&, int, const Rows&, bool, int);
template Part part_of(const Grid&, int, const Rows&, const Cell<float>&);
template Part part_of(const Grid&, int, const Rows&, const Cell<double>&);

}  // namespace fastrnn
