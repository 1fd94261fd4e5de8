"""Attention beside PyTorch's: multi-head as it comes, the others from their formulas."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from fastrnn.attention import (  # noqa: E402
    AdditiveAttention,
    DotAttention,
    GeneralAttention,
    MultiHeadAttention,
    SelfAttentivePooling,
)

T_Q, T_M, B, Q, M = 4, 7, 5, 8, 6
LENGTHS = np.array([7, 1, 4, 7, 2])
PADDING = np.arange(T_M)[:, None] >= LENGTHS  # (T_m, B)


@pytest.fixture(autouse=True, scope="module")
def torch_in_one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random(*shape, seed=0, dtype="float64"):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def leaf(array):
    return torch.tensor(array, requires_grad=True)


def leaves(layer):
    return {name: leaf(p.data) for name, p in layer.parameters().items()}


def compare(got, tensors, tolerance):
    for one, tensor in zip(got, tensors, strict=True):
        other = tensor.detach().numpy()
        assert one.shape == other.shape
        assert np.abs(one - other).max() <= tolerance * max(1.0, np.abs(other).max())


@pytest.mark.parametrize("average", [True, False])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kdim", [None, M])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
def test_multi_head(kdim, bias, batch_first, average, dtype, tolerance):
    options = {"bias": bias, "kdim": kdim, "batch_first": batch_first}
    peer = torch.nn.MultiheadAttention(Q, 2, vdim=kdim, dtype=getattr(torch, dtype), **options)
    with torch.no_grad():
        for index, parameter in enumerate(peer.parameters()):
            parameter.copy_(torch.tensor(random(*parameter.shape, seed=index)) * 0.5)
    layer = MultiHeadAttention(Q, 2, dtype=dtype, average_attn_weights=average, **options)
    layer.load_state_dict({name: t.numpy() for name, t in peer.state_dict().items()})

    query, memory = random(T_Q, B, Q, dtype=dtype), random(T_M, B, kdim or Q, seed=1, dtype=dtype)
    if batch_first:
        query, memory = query.swapaxes(0, 1), memory.swapaxes(0, 1)
    q, m = leaf(query), leaf(memory)
    y, w = peer(q, m, m, key_padding_mask=torch.tensor(PADDING.T), average_attn_weights=average)
    (context, weights), pullback = layer.vjp(query, memory, LENGTHS)
    # PyTorch's weights are (B, T_q, T_m), of heads (B, N, T_q, T_m), in both layouts.
    shown = weights if batch_first else weights.swapaxes(0, 1)
    shown = shown if average else shown.swapaxes(1, 2)
    compare([context, shown], [y, w], tolerance)

    dy, dw = random(*context.shape, seed=2, dtype=dtype), random(*shown.shape, seed=3, dtype=dtype)
    ((y * torch.tensor(dy)).sum() + (w * torch.tensor(dw)).sum()).backward()
    dw = dw if average else dw.swapaxes(1, 2)
    gradients = pullback(dy, dw if batch_first else dw.swapaxes(0, 1))
    compare(gradients, [q.grad, m.grad], tolerance)
    for name, parameter in peer.named_parameters():
        compare([layer.parameters()[name].grad], [parameter.grad], tolerance)


def luong_dot(p, q, m):
    return torch.einsum("tbq,sbq->tbs", q, m)


def luong_general(p, q, m):
    return torch.einsum("tbq,mq,sbm->tbs", q, p["query_layer.weight"], m)


def bahdanau(p, q, m):
    query = torch.nn.functional.linear(q, p["query_layer.weight"])
    keys = torch.nn.functional.linear(m, p["memory_layer.weight"], p["memory_layer.bias"])
    hidden = torch.tanh(query[:, :, None] + keys.swapaxes(0, 1)[None])
    return hidden @ p["attention_v.weight"][0]


@pytest.mark.parametrize(
    ("layer", "scores"),
    [
        (DotAttention(Q, dtype="float64"), luong_dot),
        (GeneralAttention(Q, M, dtype="float64", seed=1), luong_general),
        (AdditiveAttention(Q, M, 5, dtype="float64", seed=2), bahdanau),
    ],
    ids=["dot", "general", "additive"],
)
def test_single_head(layer, scores):
    query, memory = random(T_Q, B, Q), random(T_M, B, layer.memory_size, seed=1)
    q, m, p = leaf(query), leaf(memory), leaves(layer)
    e = scores(p, q, m).masked_fill(torch.tensor(PADDING.T), -torch.inf)
    w = torch.softmax(e, dim=-1)
    y = torch.einsum("tbs,sbm->tbm", w, m)
    (context, weights), pullback = layer.vjp(query, memory, LENGTHS)
    compare([context, weights], [y, w], 1e-13)

    dy, dw = random(*context.shape, seed=2), random(*weights.shape, seed=3)
    ((y * torch.tensor(dy)).sum() + (w * torch.tensor(dw)).sum()).backward()
    compare(pullback(dy, dw), [q.grad, m.grad], 1e-12)
    for name, parameter in layer.parameters().items():
        compare([parameter.grad], [p[name].grad], 1e-12)


def test_pooling():
    layer = SelfAttentivePooling(Q, 5, hops=3, dtype="float64", seed=1)
    x = random(T_M, B, Q)
    t, p = leaf(x), leaves(layer)
    h = t.swapaxes(0, 1)
    e = torch.tanh(h @ p["hidden_layer.weight"].T) @ p["hop_layer.weight"].T
    e = e.masked_fill(torch.tensor(PADDING.T)[..., None], -torch.inf)
    a = torch.softmax(e, dim=1).swapaxes(1, 2)
    want = (a @ h).reshape(B, -1)
    (y, weights), pullback = layer.vjp(x, LENGTHS)
    compare([y, weights], [want, a], 1e-13)
    penalty = ((a @ a.swapaxes(1, 2) - torch.eye(3, dtype=torch.float64)) ** 2).sum()
    (want.sum() + penalty).backward()
    dweights = 4.0 * (weights @ weights.swapaxes(1, 2) - np.eye(3)) @ weights
    compare([pullback(np.ones_like(y), dweights)], [t.grad], 1e-12)
    for name, parameter in layer.parameters().items():
        compare([parameter.grad], [p[name].grad], 1e-12)
