"""Layers, losses, optimisers, clipping and schedules beside PyTorch's."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import fastrnn  # noqa: E402
from fastrnn import losses, optim  # noqa: E402
from fastrnn.base import Parameter  # noqa: E402

DTYPES = [("float32", 3e-6), ("float64", 1e-13)]


def normal(*shape, seed=0, dtype="float64"):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def assert_close(got, want, tolerance):
    want = want.detach().numpy() if isinstance(want, torch.Tensor) else want
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    assert np.abs(got - want).max(initial=0.0) <= tolerance * max(1.0, np.abs(want).max(initial=0))


def tensor(array, requires_grad=True):
    return torch.tensor(array, requires_grad=requires_grad)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("leading", [(1,), (7,), (5, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear(dtype, tolerance, leading, bias):
    theirs = torch.nn.Linear(17, 9, bias, dtype=getattr(torch, dtype))
    ours = fastrnn.Linear(17, 9, bias, dtype=dtype)
    assert ours.load_state_dict(theirs.state_dict()) == ([], [])
    x, dy = normal(*leading, 17, dtype=dtype), normal(*leading, 9, seed=1, dtype=dtype)
    inputs = tensor(x)
    outputs = theirs(inputs)
    outputs.backward(torch.tensor(dy))
    y, pullback = ours.vjp(x)
    assert_close(y, outputs, tolerance)
    assert_close(pullback(dy), inputs.grad, tolerance)
    for name, parameter in theirs.named_parameters():
        assert_close(ours.parameters()[name].grad, parameter.grad, 5 * tolerance)


@pytest.mark.parametrize("padding_idx", [None, 0, -1])
def test_embedding(padding_idx):
    theirs = torch.nn.Embedding(6, 4, padding_idx, dtype=torch.float64)
    ours = fastrnn.Embedding(6, 4, padding_idx, dtype="float64")
    assert ours.padding_idx == theirs.padding_idx
    if padding_idx is not None:
        row = ours.padding_idx
        assert_close(ours.weight.data[row], theirs.weight[row], 0.0)
    ours.load_state_dict(theirs.state_dict())
    ids = np.array([[0, 5, 5], [2, 0, 1]])
    dy = normal(2, 3, 4)
    outputs = theirs(torch.tensor(ids))
    outputs.backward(torch.tensor(dy))
    y, pullback = ours.vjp(ids)
    pullback(dy)
    assert_close(y, outputs, 0.0)
    assert_close(ours.weight.grad, theirs.weight.grad, 1e-15)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("ignore_index", [-100, 2])
def test_cross_entropy(dtype, tolerance, reduction, ignore_index):
    scores = 3.0 * normal(40, 7, dtype=dtype)
    targets = np.random.default_rng(1).integers(0, 7, 40)
    targets[::5] = -100 if ignore_index == -100 else 2
    logits = tensor(scores)
    want = torch.nn.functional.cross_entropy(
        logits, torch.tensor(targets), reduction=reduction, ignore_index=ignore_index
    )
    want.sum().backward()
    loss, gradient = losses.cross_entropy(
        scores, targets, reduction=reduction, ignore_index=ignore_index
    )
    assert np.allclose(loss, want.detach().numpy(), rtol=10 * tolerance, atol=10 * tolerance)
    assert_close(gradient, logits.grad, tolerance)


def test_cross_entropy_of_nothing():
    want = torch.nn.functional.cross_entropy(torch.zeros(2, 3), torch.tensor([-100, -100]))
    assert math.isnan(want.item())
    assert math.isnan(losses.cross_entropy(np.zeros((2, 3)), [-100, -100])[0])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_mse(reduction):
    guess, truth = normal(5, 3), normal(5, 3, seed=1)
    prediction = tensor(guess)
    want = torch.nn.functional.mse_loss(prediction, torch.tensor(truth), reduction=reduction)
    want.sum().backward()
    loss, gradient = losses.mse(guess, truth, reduction=reduction)
    assert np.allclose(loss, want.detach().numpy(), rtol=1e-14)
    assert_close(gradient, prediction.grad, 1e-14)


OPTIMIZERS = [
    ("SGD", {}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.4, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.8, "nesterov": True}),
    ("RMSprop", {}),
    ("RMSprop", {"alpha": 0.95, "eps": 1e-3, "weight_decay": 0.1}),
    ("RMSprop", {"momentum": 0.7, "centered": True, "eps": 0.1}),
    ("Adam", {}),
    ("Adam", {"lr": 0.1, "betas": (0.5, 0.9), "eps": 1e-2, "weight_decay": 0.3}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.1, "betas": (0.8, 0.99), "weight_decay": 0.3}),
]


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS)
@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_optimizers(name, options, dtype, tolerance):
    start, gradients = normal(3, 21, dtype=dtype), normal(10, 3, 21, seed=1, dtype=dtype)
    ours, theirs = Parameter(start), torch.nn.Parameter(torch.tensor(start))
    our_optimizer = getattr(optim, name)([ours], **options)
    their_optimizer = getattr(torch.optim, name)([theirs], **options)
    for gradient in gradients:
        ours.grad, theirs.grad = gradient.copy(), torch.tensor(gradient)
        our_optimizer.step()
        their_optimizer.step()
        assert_close(ours.data, theirs, tolerance)


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adam", "AdamW"])
def test_optimizers_have_the_same_defaults(name):
    ours = getattr(optim, name)([Parameter([1.0])])
    theirs = getattr(torch.optim, name)([torch.nn.Parameter(torch.ones(1))]).defaults
    for option in ours._options:
        assert getattr(ours, option) == theirs[option], option


@pytest.mark.parametrize("limit", [0.0, 0.3, 1e3])
def test_clipping(limit):
    gradients = [normal(3, 4), normal(7, seed=1)]
    for kind in ("norm", "value"):
        ours = [Parameter(np.zeros_like(gradient)) for gradient in gradients]
        theirs = [
            torch.nn.Parameter(torch.zeros(gradient.shape).double()) for gradient in gradients
        ]
        for parameter, other, gradient in zip(ours, theirs, gradients, strict=True):
            parameter.grad, other.grad = gradient.copy(), torch.tensor(gradient)
        got = getattr(optim, f"clip_grad_{kind}")(ours, limit)
        want = getattr(torch.nn.utils, f"clip_grad_{kind}_")(theirs, limit)
        if kind == "norm":
            assert got == pytest.approx(want.item(), rel=1e-14)
        for parameter, other in zip(ours, theirs, strict=True):
            assert_close(parameter.grad, other.grad, 1e-15)


SCHEDULES = [
    ("ConstantLR", {"factor": 0.5, "total_iters": 3}, {}),
    ("StepLR", {"step_size": 3, "gamma": 0.3}, {}),
    ("ExponentialLR", {"gamma": 0.9}, {}),
    ("CosineAnnealingLR", {"T_max": 7, "eta_min": 0.01}, {}),
    ("LambdaLR", {"lr_lambda": lambda epoch: 0.9**epoch / (1 + epoch)}, {}),
    ("LinearWarmup", {"total_iters": 6}, {"name": "LinearLR"}),
    ("LinearWarmup", {"total_iters": 4, "start_factor": 0.1}, {"name": "LinearLR"}),
]


@pytest.mark.parametrize(("name", "options", "theirs"), SCHEDULES)
def test_schedules(name, options, theirs):
    ours = getattr(optim, name)(optim.SGD([Parameter([1.0])], lr=0.8), **options)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.8)
    schedule_class = getattr(torch.optim.lr_scheduler, theirs.get("name", name))
    theirs = schedule_class(optimizer, **options)
    for _ in range(12):
        assert ours.optimizer.lr == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        optimizer.step()
        ours.step()
        theirs.step()


@pytest.mark.parametrize(
    "options",
    [
        {"patience": 2},
        {"patience": 1, "factor": 0.5, "cooldown": 2, "min_lr": 0.05},
        {"patience": 0, "mode": "max", "threshold": 0.05, "threshold_mode": "abs"},
        {"patience": 0, "threshold": 0.2},
    ],
)
def test_reduce_lr_on_plateau(options):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.8)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **options)
    our_optimizer = optim.SGD([Parameter([1.0])], lr=0.8)
    ours = optim.ReduceLROnPlateau(our_optimizer, **options)
    for metric in 2.0 + normal(40) * 0.3 - 0.02 * np.arange(40):
        ours.step(metric)
        theirs.step(metric)
        assert our_optimizer.lr == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)


@pytest.mark.parametrize("cell", ["RNN", "LSTM", "GRU"])
def test_training_a_whole_model_gives_the_same_weights(cell):
    theirs = torch.nn.ModuleList(
        [
            torch.nn.Embedding(11, 5, dtype=torch.float64),
            getattr(torch.nn, cell)(5, 7, num_layers=2, dtype=torch.float64),
            torch.nn.Linear(7, 11, dtype=torch.float64),
        ]
    )
    ours = fastrnn.Sequential(
        fastrnn.Embedding(11, 5, dtype="float64"),
        getattr(fastrnn, cell)(5, 7, num_layers=2, dtype="float64"),
        fastrnn.Linear(7, 11, dtype="float64"),
    )
    ours.load_state_dict(theirs.state_dict())
    our_optimizer = optim.Adam(ours, lr=0.01)
    their_optimizer = torch.optim.Adam(theirs.parameters(), lr=0.01)
    ids = np.random.default_rng(0).integers(0, 11, (9, 4))
    state = their_state = None
    for _ in range(5):
        (logits, state), pullback = ours.vjp(ids, state)
        loss, gradient = losses.cross_entropy(logits[:-1], ids[1:])
        our_optimizer.zero_grad()
        pullback(np.concatenate([gradient, np.zeros((1, 4, 11))]))
        norm = optim.clip_grad_norm(ours, 0.1)
        our_optimizer.step()

        hidden, their_state = theirs[1](theirs[0](torch.tensor(ids)), their_state)
        their_logits = theirs[2](hidden)[:-1].flatten(0, 1)
        their_loss = torch.nn.functional.cross_entropy(
            their_logits, torch.tensor(ids[1:]).flatten()
        )
        their_optimizer.zero_grad()
        their_loss.backward()
        their_norm = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.1)
        their_optimizer.step()
        if cell == "LSTM":
            their_state = tuple(part.detach() for part in their_state)
        else:
            their_state = their_state.detach()

        assert loss == pytest.approx(their_loss.item(), rel=1e-11)
        assert norm == pytest.approx(their_norm.item(), rel=1e-10)
    assert norm > 0.1  # it was clipped
    for name, array in theirs.state_dict().items():
        assert_close(ours.state_dict()[name], array, 1e-10)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm(dtype, tolerance, bias):
    theirs = torch.nn.LayerNorm(37, 0.01, bias=bias, dtype=getattr(torch, dtype))
    ours = fastrnn.LayerNorm(37, 0.01, bias, dtype=dtype)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter)
    assert ours.load_state_dict(theirs.state_dict()) == ([], [])
    x, dy = normal(5, 3, 37, dtype=dtype), normal(5, 3, 37, seed=1, dtype=dtype)
    inputs = tensor(x)
    outputs = theirs(inputs)
    outputs.backward(torch.tensor(dy))
    y, pullback = ours.vjp(x)
    assert_close(y, outputs, tolerance)
    assert_close(pullback(dy), inputs.grad, tolerance)
    for name, parameter in theirs.named_parameters():
        assert_close(ours.parameters()[name].grad, parameter.grad, 5 * tolerance)
