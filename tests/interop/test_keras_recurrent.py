"""The recurrent layers beside Keras 3: masks with holes, go_backwards, Bidirectional's merges.

Keras runs on PyTorch here: its backends differ in the outputs of masked steps before the first real
one, and fastrnn gives the zeros of TensorFlow and PyTorch.
"""

import os

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="NOT TESTED: needs torch, on which Keras runs here")
os.environ["KERAS_BACKEND"] = "torch"
keras = pytest.importorskip("keras", reason="NOT TESTED: needs keras 3")

import fastrnn  # noqa: E402

if keras.backend.backend() != "torch":
    pytest.skip("NOT TESTED: Keras already runs on another backend", allow_module_level=True)

T, B, H = 6, 4, 5
INPUTS = 3
PARAMETERS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
TOLERANCE = 1e-5
MERGES = {"concat": "concat", "sum": "sum", "mul": "mul", "mean": "ave"}
KINDS = {
    "rnn": ("SimpleRNN", fastrnn.RNN, {}),
    "gru": ("GRU", fastrnn.GRU, {"reset_after": True}),
    "gru_before": ("GRU", fastrnn.GRU, {"reset_after": False}),
    "lstm": ("LSTM", fastrnn.LSTM, {}),
}
MASKS = ("none", "holes", "end", "beginning", "nothing")


@pytest.fixture(autouse=True, scope="module")
def torch_in_one_thread():
    """These layers are too small to share."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def mask_of(name):
    mask = np.random.default_rng(5).random((T, B)) < 0.6
    if name == "end":
        return np.arange(T)[:, None] < np.array([6, 2, 0, 4])
    if name == "beginning":
        return np.arange(T)[:, None] >= np.array([0, 2, 6, 4])
    return {"none": None, "holes": mask, "nothing": np.zeros((T, B), bool)}[name]


def blocks(matrix, gru):
    """PyTorch's blocks of rows as Keras has them: i, f, g, o; of a GRU z, r, n for r, z, n."""
    if not gru:
        return matrix
    r, z, n = np.split(matrix, 3)
    return np.concatenate([z, r, n])


def weights_of(layer, suffix):
    """Kernel, recurrent kernel and bias of Keras, from a layer's of one direction."""
    gru = isinstance(layer, fastrnn.GRU)
    w = {name: blocks(layer.state_dict()[name + suffix], gru) for name in PARAMETERS}
    if gru and layer.reset_after:
        bias = np.stack([w["bias_ih"], w["bias_hh"]])
    else:
        bias = w["bias_ih"] + w["bias_hh"]
    return [w["weight_ih"].T, w["weight_hh"].T, bias]


def keras_layer(kind, layer):
    name, _, options = KINDS[kind]
    theirs = getattr(keras.layers, name)(
        H,
        return_sequences=True,
        return_state=True,
        go_backwards=layer.go_backwards,
        **options,
    )
    if layer.bidirectional:
        theirs = keras.layers.Bidirectional(theirs, merge_mode=MERGES[layer.merge_mode])
    theirs.build((B, T, INPUTS))
    suffixes = ("_l0", "_l0_reverse")[: 1 + layer.bidirectional]
    theirs.set_weights([array for s in suffixes for array in weights_of(layer, s)])
    return theirs


def compare(kind, mask, **options):
    _, make, own = KINDS[kind]
    ours = make(INPUTS, H, batch_first=True, seed=1, **own, **options)
    theirs = keras_layer(kind, ours)
    rng = np.random.default_rng(2)
    D = 1 + ours.bidirectional

    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    x = normal(B, T, INPUTS)
    states = [normal(D, B, H) for _ in range(2 if kind == "lstm" else 1)]
    mask = None if (time_major := mask_of(mask)) is None else time_major.T

    their_x = torch.tensor(x, requires_grad=True)
    first = [torch.tensor(s[d]) for d in range(D) for s in states]
    their_y, *their_last = theirs(
        their_x, initial_state=first, mask=None if mask is None else torch.tensor(mask)
    )
    dy = normal(*their_y.shape)
    (their_y * torch.tensor(dy)).sum().backward()

    state = tuple(states) if kind == "lstm" else states[0]
    (y, last), pullback = ours.vjp(x, state, mask=mask)
    dx, _ = pullback(dy)
    np.testing.assert_allclose(y, their_y.detach().numpy(), rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(dx, their_x.grad.numpy(), rtol=0, atol=TOLERANCE)
    last = last if kind == "lstm" else (last,)
    got = [s[d] for d in range(D) for s in last]
    for one, other in zip(got, their_last, strict=True):
        np.testing.assert_allclose(one, other.detach().numpy(), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("kind", KINDS)
def test_one_direction(kind, mask):
    compare(kind, mask)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("kind", KINDS)
def test_go_backwards(kind, mask):
    compare(kind, mask, go_backwards=True)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("kind", KINDS)
def test_bidirectional(kind, mask):
    compare(kind, mask, bidirectional=True)


@pytest.mark.parametrize("mask", ["none", "holes"])
@pytest.mark.parametrize("merge_mode", ["sum", "mul", "mean"])
@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_merges(kind, merge_mode, mask):
    compare(kind, mask, bidirectional=True, merge_mode=merge_mode)
