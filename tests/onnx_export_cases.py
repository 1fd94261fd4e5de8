"""What the tests of ONNX export share: graphs run by ONNX Runtime, beside the models themselves."""

from __future__ import annotations

import numpy as np

TOLERANCE = 1e-5  # of float32, relative to the largest value if that is above 1
B = 5
LENGTHS = np.array([7, 0, 3, 1, 6])


class Both:
    """A graph run by ONNX Runtime and, imported again, by fastrnn, which has to give the same."""

    def __init__(self, proto):
        from fastrnn.interop.onnx import import_model

        self.session, self.model = runtime_of(proto), import_model(proto)

    def run(self, names, inputs):
        outputs = self.session.run(names, inputs)
        for one, other in zip(self.model.run(names, inputs), outputs, strict=True):
            assert_close(one, other)
        return outputs

    def __getattr__(self, name):
        return getattr(self.session, name)


def session_of(proto):
    return Both(proto)


def runtime_of(proto):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # no warnings that inputs have defaults
    return onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def run(session, **inputs):
    """The outputs by name, of the shapes that the graph tells: a name is one size everywhere."""
    infos = session.get_outputs()
    outputs = dict(zip([info.name for info in infos], session.run(None, inputs), strict=True))
    sizes = {}
    for info in [*session.get_inputs(), *infos]:
        array = inputs[info.name] if info.name in inputs else outputs[info.name]
        assert len(array.shape) == len(info.shape), info.name
        for axis, size in zip(info.shape, array.shape, strict=True):
            assert sizes.setdefault(axis, size) == size, (info.name, axis)
            assert axis == size or isinstance(axis, str)
    return outputs


def assert_close(one, other, tolerance=None):
    assert one.shape == other.shape
    assert one.dtype == other.dtype
    if tolerance is None:
        # Some numbers are float32 always: the epsilon of ONNX's LayerNormalization, and the scale
        # of a product where ONNX Runtime makes one operator of both.
        tolerance = 1e-7 if one.dtype == np.float64 else TOLERANCE
    limit = tolerance * max(1, np.abs(other).max(initial=0))
    np.testing.assert_allclose(one, other, rtol=0, atol=limit)


def assert_all_close(got, want):
    """Dictionaries of the same names."""
    assert got.keys() == want.keys()
    for name, array in want.items():
        assert_close(got[name], np.asarray(array))


def numbers(*shape, dtype="float32", seed=5):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def padded(array, lengths):
    """Time first; what padding holds must not be seen."""
    for b, length in enumerate(() if lengths is None else lengths):
        array[length:, b] = np.nan
    return array


def flat(state):
    """The arrays of a nested state, in order."""
    if isinstance(state, tuple):
        return [array for part in state for array in flat(part)]
    return [] if state is None else [state]


def filled(like, arrays):
    """A nested state with other arrays."""
    if isinstance(like, tuple):
        return tuple(filled(part, arrays) for part in like)
    return next(arrays)


def random_states(state, seed=1):
    """Random arrays in place of those of a state, none of them like another."""
    arrays = flat(state)
    new = [numbers(*a.shape, dtype=a.dtype, seed=seed + i) for i, a in enumerate(arrays)]
    return filled(state, iter(new)) if arrays else None


def state_names(session):
    inputs = [*session.get_inputs(), *session.get_overridable_initializers()]
    names = [value.name for value in inputs]
    return [name for name in names if name[:2] in ("h0", "c0")]


def compare(model, x, lengths=None, *, extra=(), zeros=False, **options):
    """Whole sequences from random states; `extra`: what the model takes between x and state.

    All outputs are near zero only where `zeros` says that they may be.
    """
    from fastrnn.interop.onnx import export_model

    session = session_of(export_model(model, lengths=lengths is not None, **options))
    given = {} if lengths is None else {"lengths": lengths}
    if not (model.recurrent and options.get("states", True)):
        y = model(x, **given)[0] if model.recurrent else model(x, **given)
        assert_all_close(run(session, **{first_name(session): x}, **given), {"y": y})
        return
    state = random_states(model(x, *extra, **given)[1])
    y, last = model(x, *extra, state, **given)
    feed = {first_name(session): x, **dict(zip(("attention",), extra, strict=False)), **given}
    states = dict(zip(state_names(session), flat(state), strict=True))
    got = run(session, **feed, **states)
    want = dict(zip(states, flat(last), strict=True))
    assert_all_close(got, {"y": y} | {name.replace("0", "n", 1): a for name, a in want.items()})
    assert zeros or np.abs(y).max() > 0.01


def first_name(session):
    return session.get_inputs()[0].name


def compare_steps(model, x, *, extra=(), **options):
    """A graph of one step, called for each step, beside a call of the model on all of them."""
    from fastrnn.interop.onnx import export_model

    session = session_of(export_model(model, method="step", **options))
    batch_first = x.shape[0] == B
    state = random_states(model(x, *extra)[1])
    y, last = model(x, *extra, state)
    names = state_names(session)
    states = dict(zip(names, flat(state), strict=True))

    def steps(array):
        return array.swapaxes(0, 1) if batch_first else array

    scores = steps(extra[0]) if extra else None
    for t, (x_t, y_t) in enumerate(zip(steps(x), steps(y), strict=True)):
        attention = {} if scores is None else {"attention": scores[t]}
        got = run(session, **{first_name(session): x_t}, **attention, **states)
        assert_close(got["y"], y_t)
        states = {name: got[name.replace("0", "n", 1)] for name in names}
    for name, array in zip(names, flat(last), strict=True):
        assert_close(states[name], array)
