"""fastrnn.inspect of the variants of recurrent cells: against formulas, in float64.

Gates are recomputed from what was captured of the step before, gradients by differences of calls.
"""

import numpy as np
import pytest

import fastrnn
from fastrnn import inspect
from reference import central_difference
from reference_variants import activate, bounded, zoneout

T, B, WIDTH, H = 5, 3, 2, 3
LENGTHS = np.array([3, T, 0])

# --- the formulas, of one direction of one row, all steps at once ---------------------------------


def normal(x, *spans):
    """Normalised over each span of the units (Ba et al. 2016)."""
    parts = np.split(x, spans, axis=-1)
    return np.concatenate(
        [
            (part - part.mean(-1, keepdims=True)) / np.sqrt(part.var(-1, keepdims=True) + 1e-5)
            for part in parts
        ],
        axis=-1,
    )


def product(w, kind, values, *spans):
    weight = w[f"weight_{kind}"]
    a = weight * values if weight.ndim == 1 else values @ weight.T
    if f"gain_{kind}" in w:
        a = normal(a, *spans) * w[f"gain_{kind}"]
    return a + w.get(f"bias_{kind}", 0)


def rnn(config, w, x, h, c, attention):
    a = product(w, "ih", x) + product(w, "hh", h)
    if config["nonlinearity"] == "prelu":
        new = np.where(a > 0, a, w["slope"] * a)
    else:
        new = activate(config["nonlinearity"], a, config["clip"])
    return {"h": zoneout(config["zoneout"], h, new)}


def lstm(config, w, x, h, c, attention):
    (f_gate, f_g, f_c), clip = config["activations"], config["clip"]
    a = np.split(product(w, "ih", x) + product(w, "hh", h), 3 if config["coupled"] else 4, axis=-1)
    names = "igo" if config["coupled"] else "ifgo"
    a = dict(zip(names, a, strict=True))
    holes = names.replace("g", "")
    p = np.split(w.get("peephole", np.zeros(len(holes) * H)), len(holes))
    p = dict(zip(holes, p, strict=True))
    i = activate(f_gate, a["i"] + p["i"] * c, clip)
    f = 1 - i if config["coupled"] else activate(f_gate, a["f"] + p["f"] * c, clip)
    g = activate(f_g, a["g"], clip)
    new = bounded(f * c + i * g, config["cell_clip"])
    o = activate(f_gate, a["o"] + p["o"] * new, clip)
    out = normal(new) * w["gain_c"] + w["bias_c"] if "gain_c" in w else new
    out = o * activate(f_c, out)
    keep = config["zoneout"]
    keep_h, keep_c = keep if isinstance(keep, list) else (keep, keep)
    if "weight_hr" in w:
        out = out @ w["weight_hr"].T
    return {
        "i": i,
        "f": f,
        "g": g,
        "o": o,
        "c": zoneout(keep_c, c, new),
        "h": zoneout(keep_h, h, out),
    }


def gru(config, w, x, h, c, attention):
    (f_gate, f_n), clip = config["activations"], config["clip"]
    x_r, x_z, x_n = np.split(product(w, "ih", x, 2 * H), 3, axis=-1)
    h_r, h_z, h_n = np.split(product(w, "hh", h, 2 * H), 3, axis=-1)
    r, z = activate(f_gate, x_r + h_r, clip), activate(f_gate, x_z + h_z, clip)
    if config["reset_after"]:
        n = activate(f_n, x_n + r * h_n, clip)
    else:
        n = activate(f_n, x_n + product(w, "hh", r * h, 2 * H)[..., 2 * H :], clip)
    update = z if attention is None else (1 - attention[:, np.newaxis]) * z
    new = zoneout(update, h, n)
    return {"r": r, "z": z, "n": n, "h": zoneout(config.get("zoneout", 0), h, new)}


# --- gates ----------------------------------------------------------------------------------------

LSTM = [
    {},
    {"peephole": True},
    {"coupled": True},
    {"coupled": True, "peephole": True, "clip": 0.5},
    {"proj_size": 2},
    {"proj_size": 2, "peephole": True, "cell_clip": 0.3},
    {"proj_size": 2, "zoneout": (0.0, 0.3)},
    {"activations": ("hard_sigmoid", "softsign", ["scaled_tanh", 1.7, 0.6])},
    {"layer_norm": True},
    {"clip": 0.4, "bias": False},
    {"zoneout": (0.2, 0.3)},
    {"layer_norm": True, "peephole": True, "coupled": True, "zoneout": 0.1, "cell_clip": 0.5},
]
GRU = [
    {"reset_after": reset_after, **options}
    for reset_after in (True, False)
    for options in ({"clip": 0.4}, {"layer_norm": True}, {"zoneout": 0.3, "bias": False})
]
ONE = [["leaky_relu", 0.2], ["thresholded_relu", 0.1], ["elu", 0.7]]
TWO = [["affine", 0.8, 0.1], ["scaled_tanh", 1.2, 0.7], ["hard_sigmoid", 0.3, 0.4]]
ALL = ["sigmoid", "tanh", "relu", "softsign", "softplus", "identity", *ONE, *TWO]
GRU += [{"activations": pair} for pair in zip(ALL, ALL[::-1], strict=True)]
RNN = [{"nonlinearity": function} for function in (*ALL, "prelu")]
RNN += [{"layer_norm": True}, {"clip": 0.3}, {"zoneout": 0.4}]
INDRNN = [{}, {"nonlinearity": "prelu"}, {"nonlinearity": "tanh", "zoneout": 0.4}]

KINDS = (
    (fastrnn.LSTM, LSTM),
    (fastrnn.GRU, GRU),
    (fastrnn.RNN, RNN),
    (fastrnn.IndRNN, INDRNN),
)
VARIANTS = [(kind, options) for kind, many in KINDS for options in many]
CELLS = {fastrnn.LSTM: lstm, fastrnn.GRU: gru, fastrnn.AUGRU: gru}
variants = pytest.mark.parametrize(
    ("kind", "options"), VARIANTS, ids=[f"{k.__name__}-{o}" for k, o in VARIANTS]
)


def make(kind, options, *sizes, dtype="float64", **more):
    layer = kind(WIDTH, H, *sizes, dtype=dtype, seed=1, **options, **more)
    rng = np.random.default_rng(2)
    for p in layer.parameters().values():
        p.data = 0.4 * rng.standard_normal(p.shape)
    return layer


def arguments(layer, seed=3):
    """x and a state, of another size for h if there is a projection."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((T, B, WIDTH)).astype(layer.dtype)
    sizes = [layer.config().get("proj_size") or H] + [H] * isinstance(layer, fastrnn.LSTM)
    parts = layer.num_layers * (2 if layer.bidirectional else 1)
    state = [rng.standard_normal((parts, B, size)).astype(layer.dtype) for size in sizes]
    return x, tuple(state) if len(state) == 2 else state[0]


def check_gates(layer, x, state, captured, lengths, attention=None):
    """Each row of each direction of each layer against the formulas."""
    weights = {name: p.data for name, p in layer.parameters().items()}
    first = state if isinstance(state, tuple) else (state, None)
    cell = CELLS.get(type(layer), rnn)
    for k, (name, found) in enumerate(captured.layers.items()):
        T, B, D, _ = found["h"].shape
        for d, b in np.ndindex(D, B):
            end = f"_{name}_reverse" if d else f"_{name}"
            w = {n.removesuffix(end): a for n, a in weights.items() if n.endswith(end)}
            order = slice(None, None, -1) if d else slice(None)
            got = {n: gate[: lengths[b], b, d][order] for n, gate in found.items()}
            before = [
                None if s is None else np.concatenate([s[k * D + d, b][None], got[n][:-1]])
                for n, s in zip("hc", first, strict=True)
            ]
            before = [s if s is None else s[: lengths[b]] for s in before]
            inputs = x[: lengths[b], b][order]
            scores = None if attention is None else attention[: lengths[b], b]
            want = cell(layer.config(), w, inputs, *before, scores)
            assert list(got) == list(want)
            for n in want:
                np.testing.assert_allclose(got[n], want[n], 1e-9, 1e-12, err_msg=f"{name} {n}")
            assert not any(gate[lengths[b] :, b, d].any() for gate in found.values())
        x = found["h"].reshape(T, B, -1)


@variants
def test_gates_are_those_of_the_formulas(kind, options):
    layer = make(kind, options, 2, bidirectional=True)
    x, state = arguments(layer)
    check_gates(layer, x, state, inspect.capture(layer, x, state, LENGTHS), LENGTHS)


@pytest.mark.parametrize("reset_after", [True, False])
def test_gates_of_augru(reset_after):
    layer = make(fastrnn.AUGRU, {"reset_after": reset_after})
    x, state = arguments(layer)
    attention = np.random.default_rng(4).random((T, B))
    captured = inspect.capture(layer, x, state, LENGTHS, attention=attention)
    check_gates(layer, x, state, captured, LENGTHS, attention)
    assert captured.y.tobytes() == layer(x, attention, state, LENGTHS)[0].tobytes()


LAYOUTS = [
    {"bidirectional": True},
    {"bidirectional": True, "merge_mode": "sum"},
    {"bidirectional": True, "merge_mode": "mul", "batch_first": True},
    {"go_backwards": True, "learned_state": True},
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@variants
def test_results_are_unchanged_to_the_bit(kind, options, dtype):
    for more in LAYOUTS:
        layer = make(kind, options, 2, dtype=dtype, **more)
        x, state = arguments(layer)
        x = x.swapaxes(0, 1) if layer.batch_first else x
        state = None if layer.learned_state else state
        y, last = layer(x, state, LENGTHS)
        captured = inspect.capture(layer, x, state, LENGTHS)
        assert captured.y.tobytes() == y.tobytes()
        parts = zip(captured.state, last, strict=True) if isinstance(last, tuple) else ()
        assert all(got.tobytes() == want.tobytes() for got, want in parts)
        assert np.array_equal(captured.state[0], last[0])
        gates = captured.layers["l1"]
        assert all(gate.dtype == dtype for gate in gates.values())
        y = y.swapaxes(0, 1) if layer.batch_first else y
        if "merge_mode" in more:
            merge = np.sum if layer.merge_mode == "sum" else np.prod
            assert np.array_equal(merge(gates["h"], axis=2), y)
        else:
            assert np.array_equal(gates["h"].reshape(y.shape), y)


@pytest.mark.parametrize("options", [{}, {"peephole": True, "coupled": True}])
def test_directions_merges_and_learned_states(options):
    plain = make(fastrnn.LSTM, options, 2)
    x, state = arguments(plain)
    expected = inspect.capture(plain, x[::-1], state).layers
    backwards = make(fastrnn.LSTM, options, 2, go_backwards=True)
    for name, gates in inspect.capture(backwards, x, state).layers.items():
        for gate, values in gates.items():
            assert np.array_equal(values, expected[name][gate])  # in the order of y

    both = make(fastrnn.LSTM, options, bidirectional=True)
    merged = make(fastrnn.LSTM, options, bidirectional=True, merge_mode="mean")
    expected, found = (inspect.capture(layer, x).layers["l0"] for layer in (both, merged))
    assert all(np.array_equal(found[gate], expected[gate]) for gate in expected)

    learned = make(fastrnn.LSTM, options, 2, learned_state=True)
    first = [np.repeat(learned.parameters()[n].data[:, None], B, axis=1) for n in ("h_0", "c_0")]
    for arguments_, start in (((x,), tuple(first)), ((x, state), state)):
        captured = inspect.capture(learned, *arguments_)
        check_gates(learned, x, start, captured, [T] * B)


@pytest.mark.parametrize("more", [{}, {"go_backwards": True}, {"bidirectional": True}])
@pytest.mark.parametrize("options", [{}, {"peephole": True, "activations": ["softsign"] * 3}])
def test_masks_and_resets(options, more):
    layer = make(fastrnn.LSTM, options, 2, **more)
    x, _ = arguments(layer)
    mask = np.array([[1, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0], [0, 1, 1]], bool)
    captured = inspect.capture(layer, x, mask=mask)
    assert captured.y.tobytes() == layer(x, mask=mask)[0].tobytes()
    steps = mask[::-1] if more.get("go_backwards") else mask
    assert np.array_equal(captured.mask, steps)
    for b in range(B):
        alone = inspect.capture(layer, x[mask[:, b], b])
        for name, gates in captured.layers.items():
            for gate, values in gates.items():
                want = alone.layers[name][gate][:, 0]
                np.testing.assert_allclose(values[steps[:, b], b], want, 1e-12, err_msg=gate)
                if gate in "ifgo":
                    assert not values[~steps[:, b], b].any()
    y = captured.y.reshape(captured.layers["l1"]["h"].shape)
    assert np.array_equal(captured.layers["l1"]["h"], y)
    if not more.get("go_backwards"):
        cells = layer.cell_states(x, mask=mask)  # repeated as y is
        assert np.array_equal(captured.layers["l1"]["c"], cells.reshape(y.shape))
    for gate, found in inspect.saturation(captured, 0.4, 0.6)["l0"].items():
        values = captured.layers["l0"][gate][steps]
        values = np.tanh(values) if gate == "c" else values
        assert np.array_equal(found.right, (values > 0.6).mean(axis=0))

    model = fastrnn.Sequential(fastrnn.Dropout(), layer)
    in_model = inspect.capture(model, x, mask=mask)
    for gate, values in captured.layers["l1"].items():
        assert np.array_equal(in_model.layers["1.l1"][gate], values)

    resets = np.zeros((T, B), bool)
    resets[2] = True
    turned = slice(None, None, -1) if more.get("go_backwards") else slice(None)
    found = inspect.capture(layer, x, resets=resets).layers["l1"]
    parts = [inspect.capture(layer, part).layers["l1"] for part in (x[:2], x[2:])]
    for gate, values in found.items():
        want = np.concatenate([part[gate] for part in parts[turned]])
        np.testing.assert_allclose(values, want, 1e-12)


def test_arguments_that_a_model_does_not_take():
    x = np.zeros((T, B, WIDTH))
    mask = np.ones((T, B), bool)
    lstm = make(fastrnn.LSTM, {})
    with pytest.raises(TypeError, match="unexpected keyword argument 'attention'"):
        inspect.capture(lstm, x, attention=x[:, :, 0])
    with pytest.raises(ValueError, match=r"mask: expected the shape \(5, 3\)"):
        inspect.capture(lstm, x, mask=mask[1:])
    augru = make(fastrnn.AUGRU, {})
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'attention'"):
        inspect.capture(augru, x)
    with pytest.raises(ValueError, match="model: expected layers that take no attention, got AUG"):
        inspect.gradient_flow(augru, x)
    with pytest.raises(ValueError, match="model: expected layers that read forward, got one that"):
        inspect.activations(make(fastrnn.GRU, {}, go_backwards=True), x[:, 0])


def test_activations_of_a_projection_start_with_the_learned_state():
    layer = make(fastrnn.LSTM, {"proj_size": 2, "learned_state": True})
    x = arguments(layer)[0][:, 0]
    found = inspect.activations(layer, x, window=2)
    assert found.units == [("l0", unit) for unit in range(H)]
    np.testing.assert_allclose(found.values, np.tanh(layer.cell_states(x)), 1e-12)


# --- gradients ------------------------------------------------------------------------------------

DIFFERENTIABLE = [
    (kind, options)
    for kind, options in VARIANTS
    if kind in (fastrnn.LSTM, fastrnn.IndRNN) or "activations" not in options
]
DIFFERENTIABLE = [
    (kind, options)
    for kind, options in DIFFERENTIABLE
    if kind is not fastrnn.RNN or options.get("nonlinearity") in ("prelu", "softsign", None)
]


@pytest.mark.parametrize(
    ("kind", "options"), DIFFERENTIABLE, ids=[f"{k.__name__}-{o}" for k, o in DIFFERENTIABLE]
)
def test_gradient_flow_is_that_of_differences(kind, options):
    dropped = {"weight_dropout": 0.4}
    if kind is not fastrnn.IndRNN:
        dropped["recurrent_dropout"] = 0.5
    layer = make(kind, options, **dropped)
    x, state = arguments(layer)
    lengths = np.array([T, 2, T])
    y = layer(x, state, lengths)[0]
    dy = np.random.default_rng(5).standard_normal(y.shape)
    flow = inspect.gradient_flow(layer, x, dy, state, lengths)
    for t in range(T):
        now = layer(x[: t + 1], state, np.minimum(lengths, t + 1))[1]
        now = [part.copy() for part in now] if isinstance(now, tuple) else [now.copy()]

        def loss(t=t, now=now):
            rest = np.clip(lengths - t - 1, 0, None)
            after = layer(x[t + 1 :], tuple(now) if len(now) == 2 else now[0], rest)[0]
            return float((dy[t] * now[0][0]).sum() + (dy[t + 1 :] * after).sum())

        for part, norms in zip(now, (flow.h["l0"], flow.c.get("l0")), strict=False):
            expected = np.linalg.norm(central_difference(loss, part)[0], axis=-1)
            expected[t >= lengths] = 0.0
            np.testing.assert_allclose(norms[t], expected, rtol=1e-6, atol=1e-8)
    for name, parameter in layer.parameters().items():
        array = parameter.data.copy()

        def total(parameter=parameter, array=array):
            parameter.data = array
            return float((dy * layer(x, state, lengths)[0]).sum())

        expected = np.linalg.norm(central_difference(total, array))
        parameter.data = array
        assert flow.parameters[name] == pytest.approx(expected, rel=1e-6, abs=1e-8), name


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (fastrnn.LSTM, {"bidirectional": True, "merge_mode": "sum", "learned_state": True}),
        (fastrnn.LSTM, {"bidirectional": True, "merge_mode": "mean", "proj_size": 2}),
        (fastrnn.LSTM, {"go_backwards": True, "peephole": True, "learned_state": True}),
        (fastrnn.GRU, {"bidirectional": True, "merge_mode": "mul", "layer_norm": True}),
        (fastrnn.IndRNN, {"bidirectional": True, "learned_state": True, "batch_first": True}),
    ],
)
def test_gradient_flow_of_stacks_is_that_of_the_whole_pass(kind, options):
    linear = fastrnn.Linear(WIDTH, WIDTH, dtype="float64", seed=1)
    model = fastrnn.Sequential(linear, make(kind, options, 2))
    x, _ = arguments(model[1])
    x = x.swapaxes(0, 1) if model[1].batch_first else x
    for lengths in (None, LENGTHS):
        (y, _), pullback = model.vjp(x, None, lengths)
        dy = np.random.default_rng(5).standard_normal(y.shape)
        pullback(dy)
        flow = inspect.gradient_flow(model, x, dy, lengths=lengths)
        assert list(flow.parameters) == list(model.parameters())
        for name, parameter in model.parameters().items():
            norm = np.linalg.norm(parameter.grad)
            assert flow.parameters[name] == pytest.approx(norm, rel=1e-9), name
        model.zero_grad()
    given = inspect.gradient_flow(model, x, dy, (arguments(model[1])[1],), LENGTHS)
    assert not {"1.h_0", "1.c_0"} & given.parameters.keys()
    empty = np.zeros((B, 0, WIDTH) if model[1].batch_first else (0, B, WIDTH))
    assert not any(inspect.gradient_flow(model, empty).parameters.values())


# --- spectral radii -------------------------------------------------------------------------------


def test_spectral_radius():
    coupled = make(fastrnn.LSTM, {"coupled": True})
    blocks = np.split(coupled.parameters()["weight_hh_l0"].data, 3)
    radii = [abs(np.linalg.eigvals(block)).max() for block in blocks]
    assert inspect.spectral_radius(coupled) == {
        "l0": pytest.approx(dict(zip("igo", radii, strict=True)))
    }
    projected = make(fastrnn.LSTM, {"proj_size": 2}, 2)
    weights = {name: p.data for name, p in projected.parameters().items()}
    blocks = np.split(weights["weight_hh_l1"], 4)
    radii = [abs(np.linalg.eigvals(block @ weights["weight_hr_l1"])).max() for block in blocks]
    assert inspect.spectral_radius(projected)["l1"] == pytest.approx(
        dict(zip("ifgo", radii, strict=True))
    )
    independent = make(fastrnn.IndRNN, {}, bidirectional=True)
    u = independent.parameters()["weight_hh_l0_reverse"]
    u.data = [0.3, -1.5, 1.2]
    assert inspect.spectral_radius(independent)["l0_reverse"] == {"h": 1.5}
    assert list(inspect.spectral_radius(make(fastrnn.AUGRU, {}))["l0"]) == ["r", "z", "n"]
