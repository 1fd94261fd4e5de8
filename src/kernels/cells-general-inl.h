// The cells with options (CellOptions): other activations, peepholes, clipping, coupled gates, zoneout,
// attention, IndRNN. As in cells-inl.h, but what is cached are the pre-activations, from which backward
// finds gates and slopes for any function.
#pragma once

#include "kernels/activations-inl.h"
#include "kernels/cells-inl.h"
#include "kernels/norm-inl.h"

namespace fastrnn {
namespace FASTRNN_TARGET {
namespace {

// A gate: its activation of the clipped pre-activation, and, of its gradient, that of the latter.
template <class Real>
struct Gate {
  const CellOptions<Real>& options;
  const Activation<Real>& activation;
  Vec<Real> z, clipped_z, y;
  Gate(const CellOptions<Real>& o, const Activation<Real>& a, Vec<Real> z_)
      : options(o), activation(a), z(z_), clipped_z(clipped(o.clip, z_)) {
    y = activate(a, clipped_z);
  }
  Vec<Real> back(Vec<Real> d_y) const {
    return clipped_gradient(options.clip, z, d_y * slope(activation, clipped_z, y));
  }
};

// Zoneout (Krueger et al. 2017): share k of the old state stays, 0 or 1 in training. k = 1 gives the
// old state to the bit, k = 0 the new one.
template <class Real>
struct Zoneout {
  Vec<Real> keep, take;
  template <class At>
  Zoneout(const At& at, const Real* row, Real constant)
      : keep(row ? at.get(row) : set1(constant)), take(one_minus(keep)) {}
  Vec<Real> mix(Vec<Real> previous, Vec<Real> next) const {
    return fma(keep, previous, take * next);
  }
};
template <class Real>
inline const Real* row_of(const Real* const* rows, Index row) {
  return rows ? rows[row] : nullptr;
}

// Normalises c_t, which waits in the place of gate i of z, into that place.
template <class Real>
void normalize_cell(const CellForward<Real>& s, Index group) {
  const CellNorm<Real>& norm = s.options->norm;
  const Index values_at = norm.values_at + 2 * (group / Vec<Real>::lanes) * s.hidden;  // of c
  normalize<Real>({s.rows, s.hidden, 1, Vec<Real>::lanes, group, s.z, s.z, 0, 0, false, norm.gain_c,
                   norm.bias_c, norm.epsilon, s.cache, values_at, norm.scales_at + 4});
}

// LSTM: peepholes as in ONNX (Gers & Schmidhuber 2000), coupled gates f = 1 - i (Greff et al. 2017),
// c clipped before it is let out (Sak et al. 2014).
template <CellKind kind>
struct LstmBlocks {
  static constexpr bool coupled = kind == CellKind::lstm_coupled;
  static constexpr int i = 0, f = 1, g = coupled ? 1 : 2, o = g + 1,
                       c = o + 1;  // of z and the cache
  static constexpr int gates = c;
  static constexpr int p_i = 0, p_f = 1, p_o = coupled ? 1 : 2;  // of the peepholes
};

// c_t, before zoneout, takes the place of gate i of z for the second pass: see for_each_group.
template <class Real, CellKind kind>
void general_lstm_forward(const CellForward<Real>& s) {
  constexpr int lanes = Vec<Real>::lanes;
  using At = LstmBlocks<kind>;
  const Index H = s.hidden, group = group_values(kind, lanes);
  const auto cell = [&](Index row) {
    const CellOptions<Real>& o = *s.options;
    const Real *const peephole = o.peephole, *const keep_c = row_of(s.keep_c, row);
    Real *const c_row = s.c[row], *const cache = s.cache ? s.cache[row] : nullptr;
    return [=, &o](auto at, Real* z) {
      const auto pre = [&](int gate, int hole, Vec<Real> c) {
        const Vec<Real> a = load(z + gate * lanes);
        return peephole ? fma(at.get(peephole + hole * H), c, a) : a;
      };
      const Vec<Real> c_prev = at.get(c_row);
      const Gate<Real> i(o, o.f, pre(At::i, At::p_i, c_prev)), g(o, o.g, load(z + At::g * lanes));
      Vec<Real> forget = one_minus(i.y);
      if constexpr (!At::coupled) {
        const Gate<Real> f(o, o.f, pre(At::f, At::p_f, c_prev));
        forget = f.y;
        if (cache) at.set(cache + At::f * H, f.z);
      }
      const Vec<Real> c_new = clipped(o.cell_clip, fma(forget, c_prev, i.y * g.y));
      Vec<Real> c = c_new;
      if (o.zoneout) c = Zoneout<Real>(at, keep_c, o.keep_c).mix(c_prev, c);
      store(z + At::o * lanes, pre(At::o, At::p_o, c_new));
      store(z, c_new);
      at.set(c_row, c);
      if (!cache) return;
      at.set(cache + At::i * H, i.z);
      at.set(cache + At::g * H, g.z);
      at.set(cache + At::c * H, c);
    };
  };
  const auto output = [&](Index row) {
    const CellOptions<Real>& o = *s.options;
    const Real *const h_prev = row_of(s.h_prev, row), *const keep_h = row_of(s.keep_h, row);
    Real *const h_row = s.h[row], *const cache = s.cache ? s.cache[row] : nullptr;
    return [=, &o](auto at, const Real* z) {
      const Gate<Real> out(o, o.f, load(z + At::o * lanes));
      Vec<Real> h = out.y * activate(o.h, load(z));
      if (o.zoneout && h_prev) h = Zoneout<Real>(at, keep_h, o.keep_h).mix(at.get(h_prev), h);
      at.set(h_row, h);
      if (cache) at.set(cache + At::o * H, out.z);
    };
  };
  if (!s.options->norm.gain_c) return for_each_group(s, group, cell, output);
  for_each_group(s, group, cell);
  normalize_cell(s, group);
  for_each_group(s, group, output);
}

// LN(c_t), from the cache.
template <class Real, int gates, class At>
inline Vec<Real> normal_cell(const CellBackward<Real>& s, Index row, const At& at) {
  const CellNorm<Real>& norm = s.options->norm;
  const Real* const value = s.cache[row] + norm.values_at + 2 * gates * s.hidden;
  const Vec<Real> shift = norm.bias_c ? at.get(norm.bias_c) : set1(Real(0));
  return fma(at.get(value), at.get(norm.gain_c), shift);
}

// From d_h to the gradient of c_t through LN(c_t), left in block 0 of d_z.
template <class Real, CellKind kind>
void general_lstm_normal_back(const CellBackward<Real>& s) {
  using At = LstmBlocks<kind>;
  const CellNorm<Real>& norm = s.options->norm;
  const Index H = s.hidden;
  for_each_vector(s, [&](Index row) {
    return [&, row](auto at) {
      const CellOptions<Real>& o = *s.options;
      const Gate<Real> out(o, o.f, at.get(s.cache[row] + At::o * H));
      const Vec<Real> c = normal_cell<Real, At::gates>(s, row, at), y = activate(o.h, c);
      Vec<Real> d_h = at.get(s.d_h[row]) + at.get(s.d_y[row]);
      if (o.zoneout) d_h = Zoneout<Real>(at, row_of(s.keep_h, row), o.keep_h).take * d_h;
      at.set(s.d_z[row] + s.d_normal_c_at, d_h * out.y * slope(o.h, c, y));
    };
  });
  normalize_back<Real>({s.rows, H, 1, s.d_z, s.d_normal_c_at, 0, s.d_normal_c_at + H, norm.gain_c,
                        s.cache, norm.values_at + 2 * At::gates * H, norm.scales_at + 4});
}

template <class Real, CellKind kind>
void general_lstm_backward(const CellBackward<Real>& s) {
  using At = LstmBlocks<kind>;
  const Index H = s.hidden;
  if (s.options->norm.gain_c) general_lstm_normal_back<Real, kind>(s);
  for_each_vector(s, [&](Index row) {
    const CellOptions<Real>& o = *s.options;
    const Real *const peephole = o.peephole, *const cache = s.cache[row];
    const Real *const c_prev_row = s.c_prev[row], *const d_y = s.d_y[row];
    const Real *const keep_h = row_of(s.keep_h, row), *const keep_c = row_of(s.keep_c, row);
    Real *const d_h_row = s.d_h[row], *const d_c_row = s.d_c[row], *const d_z = s.d_z[row];
    return [=, &o, &s](auto at) {
      const Vec<Real> c_prev = at.get(c_prev_row);
      const Gate<Real> i(o, o.f, at.get(cache + At::i * H)), g(o, o.g, at.get(cache + At::g * H));
      const Gate<Real> f(o, o.f, at.get(cache + At::f * H)), out(o, o.f, at.get(cache + At::o * H));
      const Vec<Real> forget = At::coupled ? one_minus(i.y) : f.y;
      const Vec<Real> raw = fma(forget, c_prev, i.y * g.y), c = clipped(o.cell_clip, raw);
      const bool normal = o.norm.gain_c;
      const Vec<Real> let_out = normal ? normal_cell<Real, At::gates>(s, row, at) : c;
      const Vec<Real> squashed = activate(o.h, let_out);
      Vec<Real> d_h = at.get(d_h_row) + at.get(d_y), d_c = at.get(d_c_row);
      Vec<Real> past = set1(Real(0));  // of d_c: what c_t kept of c_{t-1}
      if (o.zoneout) {
        const Zoneout<Real> zone_h(at, keep_h, o.keep_h), zone_c(at, keep_c, o.keep_c);
        at.set(d_h_row, zone_h.keep * d_h);
        d_h = zone_h.take * d_h;
        past = zone_c.keep * d_c;
        d_c = zone_c.take * d_c;
      }
      const Vec<Real> d_out = out.back(d_h * squashed);
      d_c = normal ? d_c + at.get(d_z) : fma(d_h * out.y, slope(o.h, c, squashed), d_c);
      if (peephole) d_c = fma(at.get(peephole + At::p_o * H), d_out, d_c);
      d_c = clipped_gradient(o.cell_clip, raw, d_c);
      const Vec<Real> d_i = i.back(d_c * (At::coupled ? g.y - c_prev : g.y));
      const Vec<Real> d_f = At::coupled ? set1(Real(0)) : f.back(d_c * c_prev);
      past = fma(d_c, forget, past);
      if (peephole) {
        past = fma(at.get(peephole + At::p_i * H), d_i, past);
        Real* const holes = d_z + At::gates * H;
        at.set(holes + At::p_i * H, d_i * c_prev);
        if constexpr (!At::coupled) {
          past = fma(at.get(peephole + At::p_f * H), d_f, past);
          at.set(holes + At::p_f * H, d_f * c_prev);
        }
        at.set(holes + At::p_o * H, d_out * c);
      }
      at.set(d_z + At::i * H, d_i);
      if constexpr (!At::coupled) at.set(d_z + At::f * H, d_f);
      at.set(d_z + At::g * H, g.back(d_c * i.y));
      at.set(d_z + At::o * H, d_out);
      at.set(d_c_row, past);
    };
  });
}

// GRU. With attention a of a row (AUGRU: Zhou et al. 2019, "Deep interest evolution network", eq. 8)
// the update gate becomes (1 - a) z.
template <class Real>
struct Update {
  Vec<Real> rest, y;  // 1 - a; the update gate
  Update(const Gate<Real>& z, const Real* attention)
      : rest(attention ? one_minus(set1(*attention)) : set1(Real(1))), y(z.y) {
    if (attention) y = rest * y;
  }
};

// What both variants do once the pre-activation of n is known.
template <class Real, class At>
inline void general_gru_output(const CellForward<Real>& s, Index row, const At& at, Vec<Real> z_z,
                               Vec<Real> z_n) {
  const CellOptions<Real>& o = *s.options;
  const Vec<Real> h_prev = at.get(s.h_prev[row]);
  const Gate<Real> n(o, o.g, z_n);
  const Update<Real> update(Gate<Real>(o, o.f, z_z), row_of(s.attention, row));
  Vec<Real> h = fma(update.y, h_prev - n.y, n.y);
  if (o.zoneout) h = Zoneout<Real>(at, row_of(s.keep_h, row), o.keep_h).mix(h_prev, h);
  at.set(s.h[row], h);
  if (!s.cache) return;
  at.set(s.cache[row] + s.hidden, z_z);
  at.set(s.cache[row] + 2 * s.hidden, z_n);
}

// d_n of the pre-activation; writes z of d_z, the attention's block and the direct part of d_h.
template <class Real, class At>
inline Vec<Real> general_gru_back(const CellBackward<Real>& s, Index row, const At& at) {
  const CellOptions<Real>& o = *s.options;
  const Index H = s.hidden;
  const Real* const cache = s.cache[row];
  const Gate<Real> z(o, o.f, at.get(cache + H)), n(o, o.g, at.get(cache + 2 * H));
  const Update<Real> update(z, row_of(s.attention, row));
  Vec<Real> d_h = at.get(s.d_h[row]) + at.get(s.d_y[row]), past = set1(Real(0));
  if (o.zoneout) {
    const Zoneout<Real> zone(at, row_of(s.keep_h, row), o.keep_h);
    past = zone.keep * d_h;
    d_h = zone.take * d_h;
  }
  const Vec<Real> d_update = d_h * (at.get(s.h_prev[row]) - n.y);
  at.set(s.d_z[row] + 2 * H, z.back(d_update * update.rest));
  if (s.attention) at.set(s.d_z[row] + 4 * H, (set1(Real(0)) - d_update) * z.y);
  at.set(s.d_h[row], fma(d_h, update.y, past));
  return n.back(d_h * one_minus(update.y));
}

template <class Real>
void general_gru_forward(const CellForward<Real>& s) {
  constexpr int lanes = Vec<Real>::lanes;
  for_each_group(s, group_values(CellKind::gru, lanes), [&](Index row) {
    return [&, row](auto at, const Real* z) {
      const Gate<Real> r(*s.options, s.options->f, load(z + lanes));
      const Vec<Real> n_h = load(z + 3 * lanes), n_x = load(z);
      if (s.cache) {
        at.set(s.cache[row], r.z);
        at.set(s.cache[row] + 3 * s.hidden, n_h);
      }
      general_gru_output(s, row, at, load(z + 2 * lanes), fma(r.y, n_h, n_x));
    };
  });
}

template <class Real>
void general_gru_backward(const CellBackward<Real>& s) {
  for_each_vector(s, [&](Index row) {
    return [&, row](auto at) {
      const Index H = s.hidden;
      const Vec<Real> d_n = general_gru_back(s, row, at), n_h = at.get(s.cache[row] + 3 * H);
      const Gate<Real> r(*s.options, s.options->f, at.get(s.cache[row]));
      at.set(s.d_z[row], d_n);
      at.set(s.d_z[row] + H, r.back(d_n * n_h));
      at.set(s.d_z[row] + 3 * H, d_n * r.y);
    };
  });
}

template <class Real>
void general_gru_before_forward_reset(const CellForward<Real>& s) {
  constexpr int lanes = Vec<Real>::lanes;
  for_each_group(s, group_values(CellKind::gru_reset_before, lanes), [&](Index row) {
    return [&, row](auto at, const Real* z) {
      const Gate<Real> r(*s.options, s.options->f, load(z + lanes));
      at.set(s.reset_h[row], r.y * at.get(s.h_prev[row]));
      if (s.cache) at.set(s.cache[row], r.z);
    };
  });
}

template <class Real>
void general_gru_before_forward(const CellForward<Real>& s) {
  constexpr int lanes = Vec<Real>::lanes;
  for_each_group(s, group_values(CellKind::gru_reset_before, lanes), [&](Index row) {
    return [&, row](auto at, const Real* z) {
      general_gru_output(s, row, at, load(z + 2 * lanes), load(z));
    };
  });
}

template <class Real>
void general_gru_before_backward(const CellBackward<Real>& s) {
  for_each_vector(s, [&](Index row) {
    return [&, row](auto at) { at.set(s.d_z[row], general_gru_back(s, row, at)); };
  });
}

template <class Real>
void general_gru_before_backward_reset(const CellBackward<Real>& s) {
  for_each_vector(s, [&](Index row) {
    return [&, row](auto at) {
      const Index H = s.hidden;
      const Gate<Real> r(*s.options, s.options->f, at.get(s.cache[row]));
      const Vec<Real> h_prev = at.get(s.h_prev[row]), d_reset_h = at.get(s.d_reset_h[row]);
      at.set(s.d_z[row] + H, r.back(d_reset_h * h_prev));
      at.set(s.d_z[row] + 3 * H, r.y * h_prev);
      at.set(s.d_h[row], fma(d_reset_h, r.y, at.get(s.d_h[row])));
    };
  });
}

// RNN, and IndRNN (Li et al. 2018): z + u * h_{t-1}, elementwise. prelu: He et al. 2015.
template <class Real, CellKind kind>
void general_rnn_forward(const CellForward<Real>& s) {
  constexpr int units = group_units(kind, Vec<Real>::lanes);
  for (Index row = 0; row < s.rows; ++row) {
    const CellOptions<Real>& o = *s.options;
    const Real *const z_row = s.z[row], *const h_prev = row_of(s.h_prev, row);
    const Real* const keep = row_of(s.keep_h, row);
    Real *const h_row = s.h[row], *const cache = s.cache ? s.cache[row] : nullptr;
    for_units<Real>(s.group_begin * units, s.group_end * units, s.hidden, [=, &o](auto at) {
      Vec<Real> z = load(z_row + at.unit);
      if (kind == CellKind::indrnn) z = fma(at.get(o.recurrent), at.get(h_prev), z);
      if (cache) at.set(cache, z);
      const Gate<Real> gate(o, o.f, z);
      Vec<Real> h = gate.y;
      if (o.slope) h = select(set1(Real(0)) > h, at.get(o.slope) * h, h);
      if (o.zoneout) h = Zoneout<Real>(at, keep, o.keep_h).mix(at.get(h_prev), h);
      at.set(h_row, h);
    });
  }
}

template <class Real, CellKind kind>
void general_rnn_backward(const CellBackward<Real>& s) {
  for_each_vector(s, [&](Index row) {
    const CellOptions<Real>& o = *s.options;
    const Index H = s.hidden;
    const Real *const cache = s.cache[row], *const h_prev = s.h_prev[row], *const d_y = s.d_y[row];
    const Real* const keep = row_of(s.keep_h, row);
    Real *const d_h_row = s.d_h[row], *const d_z_row = s.d_z[row];
    return [=, &o](auto at) {
      constexpr int slope_at = kind == CellKind::indrnn ? 2 : 1;
      const Vec<Real> zero = set1(Real(0));
      const Gate<Real> gate(o, o.f, at.get(cache));
      Vec<Real> d_h = at.get(d_h_row) + at.get(d_y), past = zero;
      if (o.zoneout) {
        const Zoneout<Real> zone(at, keep, o.keep_h);
        past = zone.keep * d_h;
        d_h = zone.take * d_h;
      }
      if (o.slope) {
        at.set(d_z_row + slope_at * H, d_h * min(zero, gate.clipped_z));
        d_h = select(zero > gate.clipped_z, at.get(o.slope) * d_h, d_h);
      }
      const Vec<Real> d_z = gate.back(d_h);
      at.set(d_z_row, d_z);
      if (kind == CellKind::indrnn) {
        past = fma(at.get(o.recurrent), d_z, past);
        at.set(d_z_row + H, d_z * at.get(h_prev));
      }
      if (kind == CellKind::indrnn || o.zoneout) at.set(d_h_row, past);
    };
  });
}

}  // namespace
}  // namespace FASTRNN_TARGET
}  // namespace fastrnn
