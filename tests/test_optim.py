"""Optimisers, clipping and schedules against the formulas of their sources."""

import itertools
import math

import numpy as np
import pytest

from fastrnn.base import Parameter
from fastrnn.layers import Linear, Sequential
from fastrnn.optim import (
    SGD,
    Adam,
    AdamW,
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearWarmup,
    ReduceLROnPlateau,
    RMSprop,
    StepLR,
    clip_grad_norm,
    clip_grad_value,
)

# The formulas, step by step: from the gradients of all steps to the weights after each.


def sgd(p, gradients, lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False):
    v = None
    for g in gradients:
        g = g + weight_decay * p
        v = g if v is None else momentum * v + (1.0 - dampening) * g
        if momentum == 0.0:
            p = p - lr * g
        elif nesterov:
            p = p - lr * (g + momentum * v)
        else:
            p = p - lr * v
        yield p


def rmsprop(p, gradients, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0, momentum=0, centered=0):
    s, m, v = np.zeros_like(p), np.zeros_like(p), np.zeros_like(p)
    for g in gradients:
        g = g + weight_decay * p
        s = alpha * s + (1.0 - alpha) * g**2
        m = alpha * m + (1.0 - alpha) * g
        v = momentum * v + g / (np.sqrt(s - m**2 if centered else s) + eps)
        p = p - lr * v
        yield p


def adam(p, gradients, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled=False):
    m, s = np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(gradients, start=1):
        if decoupled:
            p = p - lr * weight_decay * p
        else:
            g = g + weight_decay * p
        m = betas[0] * m + (1.0 - betas[0]) * g
        s = betas[1] * s + (1.0 - betas[1]) * g**2
        p = p - lr * (m / (1.0 - betas[0] ** t)) / (np.sqrt(s / (1.0 - betas[1] ** t)) + eps)
        yield p


def adamw(p, gradients, weight_decay=1e-2, **options):
    return adam(p, gradients, weight_decay=weight_decay, decoupled=True, **options)


FORMULA = {SGD: sgd, RMSprop: rmsprop, Adam: adam, AdamW: adamw}
CASES = [
    (SGD, {}),
    (SGD, {"lr": 0.1, "weight_decay": 0.3}),
    (SGD, {"lr": 0.1, "momentum": 0.9}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.4, "weight_decay": 0.1}),
    (SGD, {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1}),
    (RMSprop, {}),
    (RMSprop, {"lr": 0.02, "alpha": 0.95, "eps": 1e-3}),
    (RMSprop, {"lr": 0.02, "alpha": 0.9, "momentum": 0.7}),
    (RMSprop, {"lr": 0.02, "alpha": 0.9, "centered": True, "eps": 1e-2}),
    (RMSprop, {"alpha": 0.8, "momentum": 0.5, "centered": True, "weight_decay": 0.2, "eps": 0.1}),
    (Adam, {}),
    (Adam, {"lr": 0.1, "betas": (0.5, 0.9), "eps": 1e-2}),
    (Adam, {"lr": 0.1, "weight_decay": 0.3}),
    (AdamW, {}),
    (AdamW, {"lr": 0.1, "betas": (0.0, 0.0), "weight_decay": 0.3}),
]
ids = [f"{c.__name__}-{'-'.join(options) or 'defaults'}" for c, options in CASES]
all_cases = pytest.mark.parametrize(("optimizer_class", "options"), CASES, ids=ids)
all_classes = pytest.mark.parametrize("optimizer_class", FORMULA)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@all_cases
@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (2, 67)])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("float64", 1e-14)])
def test_steps_are_the_formulas(optimizer_class, options, shape, dtype, tolerance):
    start, gradients = normal(*shape).astype(dtype), normal(6, *shape, seed=1).astype(dtype)
    parameter = Parameter(start)
    optimizer = optimizer_class([parameter], **options)
    wanted = FORMULA[optimizer_class](
        start.astype(np.float64), gradients.astype(np.float64), **options
    )
    for number, (gradient, want) in enumerate(zip(gradients, wanted, strict=True), start=1):
        parameter.grad = np.array(gradient)
        optimizer.step()
        assert parameter.dtype == np.dtype(dtype)
        assert np.abs(parameter.data - want).max() <= tolerance * max(1.0, np.abs(want).max())
        assert np.array_equal(parameter.grad, gradient)  # read, not changed
        assert parameter.version == number


@all_cases
def test_steps_have_the_same_bits_with_any_number_of_threads(
    set_num_threads, optimizer_class, options
):
    results = []
    for threads in (1, 2, 3):
        set_num_threads(threads)
        parameter = Parameter(normal(70001).astype(np.float32))
        optimizer = optimizer_class([parameter], **options)
        for seed in (1, 2):
            parameter.grad = normal(70001, seed=seed).astype(np.float32)
            optimizer.step()
        results.append(parameter.data)
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


@all_classes
def test_parameters_without_gradient_are_passed_by(optimizer_class):
    """Their count of steps stays, too: the late one moves as if it had been alone."""
    start, gradients = normal(4), normal(3, 4, seed=1)
    early, late, frozen = Parameter(start), Parameter(start), Parameter(start, requires_grad=False)
    optimizer = optimizer_class({"early": early, "late": late, "frozen": frozen})
    for number, gradient in enumerate(gradients):
        early.grad = frozen.grad = gradient.copy()
        late.grad = gradients[number - 1].copy() if number else None
        optimizer.step()
    formula = FORMULA[optimizer_class]
    assert np.allclose(early.data, list(formula(start, gradients))[2], rtol=1e-13, atol=1e-14)
    assert np.allclose(late.data, list(formula(start, gradients[:2]))[1], rtol=1e-13, atol=1e-14)
    assert np.array_equal(frozen.data, start)
    assert (early.version, late.version, frozen.version) == (3, 2, 0)


@all_classes
def test_a_parameter_that_appears_twice_moves_once(optimizer_class):
    shared = Linear(3, 3, dtype="float64", seed=0)
    other = Linear(3, 3, dtype="float64", seed=0)
    models = Sequential(shared, shared), other
    for model in models:
        for parameter in model.parameters().values():
            parameter.grad = np.ones(parameter.shape)
        optimizer_class(model).step()
    assert np.array_equal(shared.weight.data, other.weight.data)


@pytest.mark.parametrize("kind", ["layer", "dict", "values", "list", "generator"])
def test_parameters_come_as_layer_dict_or_iterable(kind):
    layer = Linear(2, 2, seed=0)
    parameters = layer.parameters()
    given = {
        "layer": layer,
        "dict": parameters,
        "values": parameters.values(),
        "list": [layer.weight, layer.bias],
        "generator": (parameter for parameter in parameters.values()),
    }[kind]
    before = layer.state_dict()
    for parameter in parameters.values():
        parameter.grad = np.ones(parameter.shape, np.float32)
    optimizer = SGD(given, lr=0.5)
    optimizer.step()
    for name, parameter in parameters.items():
        assert np.array_equal(parameter.data, before[name] - np.float32(0.5))
    optimizer.zero_grad(set_to_none=False)
    assert not layer.weight.grad.any()
    optimizer.zero_grad()
    assert layer.weight.grad is layer.bias.grad is None


def test_a_single_parameter_is_taken_as_it_is():
    parameter = Parameter([3.0, 4.0])
    parameter.grad = np.array([3.0, 4.0], np.float32)
    assert clip_grad_norm(parameter, 10.0) == 5.0
    SGD(parameter, lr=1.0).step()
    assert parameter.data.tolist() == [0.0, 0.0]


def test_gradients_of_any_layout_are_taken():
    one, other = Parameter(normal(3, 4)), Parameter(normal(3, 4))
    one.grad, other.grad = normal(4, 3, seed=1).T, normal(4, 3, seed=1).T.copy()
    for parameter in (one, other):
        SGD([parameter], lr=0.1).step()
    assert np.array_equal(one.data, other.data)


@pytest.mark.parametrize(
    ("grad", "error", "message"),
    [
        (np.ones(4), ValueError, r"second.grad: expected the shape \(3,\), got \(4,\)"),
        (
            np.ones(3, np.float32),
            TypeError,
            "second.grad: expected an array of float64, got float3",
        ),
    ],
)
@all_classes
def test_nothing_moves_if_a_gradient_does_not_fit(optimizer_class, grad, error, message):
    first, second = Parameter(np.ones(3)), Parameter(np.ones(3))
    optimizer = optimizer_class({"first": first, "second": second})
    first.grad, second.grad = np.ones(3), grad
    for function in (
        optimizer.step,
        lambda: clip_grad_norm([first, second], 0.1),
        lambda: clip_grad_value([first, second], 0.1),
    ):
        with pytest.raises(error, match=message.replace("second", r"(second|1)")):
            function()
        assert first.data.tolist() == [1.0, 1.0, 1.0]
        assert first.grad.tolist() == [1.0, 1.0, 1.0]
    assert list(optimizer.state_dict()) == list(optimizer._options)


def test_lr_may_be_set():
    parameter = Parameter(np.zeros(1))
    optimizer = SGD([parameter], lr=1.0)
    optimizer.lr = 0.25
    parameter.grad = np.ones(1)
    optimizer.step()
    assert parameter.data[0] == -0.25
    with pytest.raises(ValueError, match=r"^lr: expected at least 0.0, got -1.0"):
        optimizer.lr = -1.0
    assert optimizer.lr == 0.25


@pytest.mark.parametrize(
    ("optimizer_class", "options", "error", "message"),
    [
        (SGD, {"lr": -0.1}, ValueError, "lr: expected at least 0.0, got -0.1"),
        (SGD, {"lr": math.nan}, ValueError, "lr: expected at least 0.0, got nan"),
        (SGD, {"lr": "0.1"}, TypeError, "lr: expected a number, got '0.1'"),
        (SGD, {"momentum": -1}, ValueError, "momentum: expected at least 0.0, got -1.0"),
        (SGD, {"weight_decay": -1}, ValueError, "weight_decay: expected at least 0.0, got -1.0"),
        (SGD, {"nesterov": True}, ValueError, "nesterov: expected a momentum above 0 and a damp"),
        (
            SGD,
            {"nesterov": True, "momentum": 0.9, "dampening": 0.1},
            ValueError,
            "nesterov: expected a momentum above 0 and a dampening of 0, got 0.9 and 0.1",
        ),
        (SGD, {"nesterov": 1, "momentum": 0.9}, TypeError, "nesterov: expected True or False"),
        (RMSprop, {"alpha": -0.1}, ValueError, "alpha: expected at least 0.0, got -0.1"),
        (RMSprop, {"eps": -0.1}, ValueError, "eps: expected at least 0.0, got -0.1"),
        (RMSprop, {"momentum": -0.1}, ValueError, "momentum: expected at least 0.0, got -0.1"),
        (Adam, {"betas": (1.0, 0.9)}, ValueError, r"betas\[0\]: expected a number from 0.0 to 0.9"),
        (Adam, {"betas": (0.9, -0.1)}, ValueError, r"betas\[1\]: expected a number from 0.0 to 0"),
        (Adam, {"betas": 0.9}, TypeError, "betas: expected two numbers, got 0.9"),
        (AdamW, {"eps": -1}, ValueError, "eps: expected at least 0.0, got -1.0"),
        (AdamW, {"weight_decay": -1}, ValueError, "weight_decay: expected at least 0.0, got -1.0"),
    ],
)
def test_options_are_checked(optimizer_class, options, error, message):
    with pytest.raises(error, match=f"^{message}"):
        optimizer_class([Parameter([1.0])], **options)


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ([], ValueError, "parameters: expected at least one, got none"),
        ({"a": [1.0]}, TypeError, "parameters: expected a Layer, a dict or .*, got list"),
        (3, TypeError, "parameters: expected a Layer, a dict or .*, got int"),
        ("abc", TypeError, "parameters: expected a Layer, a dict or .*, got str"),
    ],
)
def test_parameters_are_checked(parameters, error, message):
    with pytest.raises(error, match=f"^{message}"):
        Adam(parameters)


def trained(optimizer_class, options, steps, seed=0):
    layer = Linear(3, 2, dtype="float64", seed=0)
    optimizer = optimizer_class(layer, **options)
    more_steps(layer, optimizer, steps, seed)
    return layer, optimizer


def more_steps(layer, optimizer, steps, seed):
    for number in range(steps):
        layer.weight.grad = normal(2, 3, seed=10 * seed + number)
        layer.bias.grad = normal(2, seed=10 * seed + number)
        optimizer.step()


@all_cases
@pytest.mark.parametrize("kept_in", ["memory", "file"])
def test_training_goes_on_from_a_state_dict(tmp_path, optimizer_class, options, kept_in):
    layer, optimizer = trained(optimizer_class, options, steps=3)
    state_dict = optimizer.state_dict()
    if kept_in == "file":
        np.savez(tmp_path / "state.npz", **state_dict)
        with np.load(tmp_path / "state.npz") as file:
            state_dict = dict(file)
    other = Linear(3, 2, dtype="float64")
    other.load_state_dict(layer.state_dict())
    other_optimizer = optimizer_class(other)
    other_optimizer.load_state_dict(state_dict)
    more_steps(layer, optimizer, steps=3, seed=1)  # what was saved is a copy
    more_steps(other, other_optimizer, steps=3, seed=1)
    assert repr(other_optimizer) == repr(optimizer)
    for name, array in layer.state_dict().items():
        assert np.array_equal(other.state_dict()[name], array)


def test_state_dict_is_flat():
    _, optimizer = trained(Adam, {"lr": 0.5}, steps=2)
    state_dict = optimizer.state_dict()
    assert state_dict["lr"] == 0.5
    assert state_dict["betas"].tolist() == [0.9, 0.999]
    assert state_dict["weight.step"] == 2
    assert state_dict["bias.exp_avg_sq"].shape == (2,)
    assert len(state_dict) == 4 + 2 * 3


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"lr": None}, ValueError, "state_dict: missing lr"),
        ({"lr": -1.0}, ValueError, "lr: expected at least 0.0, got -1.0"),
        ({"betas": np.zeros(3)}, TypeError, "betas: expected two numbers"),
        ({"bias.exp_avg": None}, ValueError, "state_dict: missing bias.exp_avg"),
        ({"bias.step": None}, ValueError, "state_dict: unexpected bias.exp_avg, bias.exp_avg_sq"),
        ({"bias.step": 0}, ValueError, "bias.step: expected at least 1, got 0"),
        ({"bias.step": 1.5}, TypeError, "bias.step: expected an integer, got 1.5"),
        (
            {"bias.exp_avg": np.zeros(3)},
            ValueError,
            r"bias.exp_avg: expected the shape \(2,\), got",
        ),
        ({"bias.exp_avg": np.zeros(2, "f4")}, TypeError, "bias.exp_avg: expected an array of floa"),
        ({"momentum": 0.5}, ValueError, "state_dict: unexpected momentum"),
    ],
)
def test_a_state_dict_that_does_not_fit_changes_nothing(change, error, message):
    _, optimizer = trained(Adam, {"lr": 0.25}, steps=2)
    before = optimizer.state_dict()
    other = trained(Adam, {"lr": 0.5}, steps=3, seed=1)[1].state_dict() | change
    other = {name: value for name, value in other.items() if value is not None}
    with pytest.raises(error, match=f"^{message}"):
        optimizer.load_state_dict(other)
    after = optimizer.state_dict()
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)


# Clipping


def parameters_with(*gradients):
    parameters = [Parameter(np.zeros_like(np.asarray(g))) for g in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = np.array(gradient)
    return parameters


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("max_norm", [0.0, 0.5, 4.9])
def test_clip_grad_norm_scales_all_gradients_by_one_factor(dtype, max_norm):
    gradients = [np.array([[3.0], [0.0]], dtype), np.array([0.0, -4.0], dtype)]
    parameters = [*parameters_with(*gradients), Parameter([1.0])]
    norm = clip_grad_norm(parameters, max_norm)
    assert norm == 5.0
    assert type(norm) is float
    for parameter, gradient in zip(parameters, gradients, strict=False):
        want = gradient * (max_norm / (5.0 + 1e-6))
        assert np.allclose(parameter.grad, want, rtol=1e-6, atol=0.0)
    assert parameters[2].grad is None


@pytest.mark.parametrize("max_norm", [5.1, 1000.0, math.inf])
def test_clip_grad_norm_leaves_short_gradients_alone(max_norm):
    parameters = parameters_with(np.array([3.0, 4.0]))
    assert clip_grad_norm(parameters, max_norm) == 5.0
    assert parameters[0].grad.tolist() == [3.0, 4.0]


def test_clip_grad_norm_accumulates_in_float64():
    parameters = parameters_with(np.full(10, 1e30, np.float32), np.full(6, 1e30, np.float32))
    assert clip_grad_norm(parameters, 4.0) == pytest.approx(4e30, rel=1e-6)
    assert parameters[0].grad == pytest.approx(np.ones(10), rel=1e-6)
    many = parameters_with(np.full(100000, 0.1, np.float32))
    exact = math.sqrt(100000 * float(np.float32(0.1)) ** 2)
    assert clip_grad_norm(many, math.inf) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_clip_grad_norm_of_gradients_that_are_not_finite(bad):
    parameters = parameters_with(np.array([bad, 1.0]), np.array([2.0]))
    with pytest.raises(RuntimeError, match=f"^the norm of the gradients is {bad}, so they cannot"):
        clip_grad_norm(parameters, 1.0, error_if_nonfinite=True)
    assert parameters[1].grad.tolist() == [2.0]
    assert math.isfinite(clip_grad_norm(parameters, 1.0)) is False
    assert np.isnan(parameters[0].grad[0])


def test_clip_grad_norm_of_nothing_is_zero():
    assert clip_grad_norm([], 1.0) == 0.0
    assert clip_grad_norm(Linear(2, 2), 1.0) == 0.0


def test_clip_grad_value():
    parameters = [*parameters_with(np.array([[-3.0, -0.5], [np.nan, 7.0]])), Parameter([1.0])]
    assert clip_grad_value(parameters, 2.0) is None
    want = np.array([[-2.0, -0.5], [np.nan, 2.0]])
    assert np.array_equal(parameters[0].grad, want, equal_nan=True)
    assert parameters[1].grad is None


@pytest.mark.parametrize("clip", [clip_grad_norm, clip_grad_value])
def test_clipping_reaches_gradients_of_any_layout(clip):
    parameter = Parameter(np.zeros((2, 3)))
    parameter.grad = np.full((3, 2), 9.0).T
    clip([parameter], 1e-3)
    assert np.abs(parameter.grad).max() <= 1e-3


@pytest.mark.parametrize("clip", [clip_grad_norm, clip_grad_value])
@pytest.mark.parametrize("limit", [-1.0, math.nan, "1", None])
def test_clipping_refuses_limits(clip, limit):
    parameters = parameters_with(np.ones(2))
    name = "max_norm" if clip is clip_grad_norm else "clip_value"
    with pytest.raises((TypeError, ValueError), match=f"^{name}: expected"):
        clip(parameters, limit)
    assert parameters[0].grad.tolist() == [1.0, 1.0]


# Schedules


def optimizer_at(lr):
    return SGD([Parameter([1.0])], lr=lr)


def rates(schedule, count):
    """The learning rate at first and after each of `count` steps."""
    found = [schedule.optimizer.lr]
    for _ in range(count):
        schedule.step()
        found.append(schedule.optimizer.lr)
    return found


def cosine(epoch):
    return 0.1 + 0.7 * (1.0 + math.cos(math.pi * epoch / 4)) / 2.0


SCHEDULES = [
    (lambda o: ConstantLR(o, 0.5, 2), [0.4, 0.4, 0.8, 0.8]),
    (lambda o: ConstantLR(o), [0.8 / 3] * 5 + [0.8, 0.8]),
    (lambda o: StepLR(o, 2, 0.5), [0.8, 0.8, 0.4, 0.4, 0.2, 0.2]),
    (lambda o: StepLR(o, 1), [0.8, 0.08, 0.008]),
    (lambda o: ExponentialLR(o, 0.5), [0.8, 0.4, 0.2, 0.1]),
    (lambda o: ExponentialLR(o, 0.5, start=2), [0.8, 0.8, 0.8, 0.4, 0.2]),
    (lambda o: CosineAnnealingLR(o, 4, 0.1), [cosine(epoch) for epoch in range(9)]),
    (lambda o: CosineAnnealingLR(o, 2), [0.8, 0.4, 0.0]),
    (lambda o: LambdaLR(o, lambda epoch: 1.0 / (2 + epoch)), [0.4, 0.8 / 3, 0.2]),
    (lambda o: LinearWarmup(o, 4, 0.2), [0.16, 0.32, 0.48, 0.64, 0.8, 0.8]),
    (lambda o: LinearWarmup(o, 2, 0.0), [0.0, 0.4, 0.8, 0.8]),
    (
        lambda o: LinearWarmup(o, 2, 0.5, after=ExponentialLR(o, 0.5)),
        [0.4, 0.6, 0.8, 0.4, 0.2],
    ),
    (
        lambda o: LinearWarmup(o, 2, 0.5, after=LambdaLR(o, lambda epoch: 0.5 - 0.1 * epoch)),
        [0.2, 0.3, 0.4, 0.32, 0.24],
    ),
]


@pytest.mark.parametrize(("make", "want"), SCHEDULES)
def test_schedules(make, want):
    schedule = make(optimizer_at(0.8))
    assert rates(schedule, len(want) - 1) == pytest.approx(want, rel=1e-14, abs=1e-16)


@pytest.mark.parametrize(("make", "want"), SCHEDULES)
def test_schedules_go_on_from_a_state_dict(make, want):
    schedule, other = make(optimizer_at(0.8)), make(optimizer_at(0.8))
    schedule.step()
    schedule.step()
    other.load_state_dict({name: np.array(v) for name, v in schedule.state_dict().items()})
    assert other.optimizer.lr == schedule.optimizer.lr
    assert rates(other, 2) == rates(schedule, 2)
    with pytest.raises(ValueError, match="state_dict: expected the entries base_lr, last_epoch, g"):
        other.load_state_dict({"last_epoch": 3})


def test_exponential_schedule_is_that_of_the_character_recipe():
    """There, the rate is multiplied by 0.97 at the end of each epoch from the 10th on."""
    lr, want = 2e-3, [2e-3]
    for epoch in range(1, 15):
        if epoch >= 10:
            lr *= 0.97
        want.append(lr)
    schedule = ExponentialLR(optimizer_at(2e-3), 0.97, start=9)
    assert rates(schedule, 14) == pytest.approx(want, rel=1e-14)


@pytest.mark.parametrize(
    ("options", "metrics", "want"),
    [
        ({"patience": 1}, [3, 2, 2, 2, 2], [1, 1, 1, 0.1, 0.1]),
        ({"patience": 1}, [3, 2, 2, 1.9, 1.95, 1.9, 1.8], [1, 1, 1, 1, 1, 0.1, 0.1]),
        ({"patience": 0, "factor": 0.5}, [3, 3, 3], [1, 0.5, 0.25]),
        ({"patience": 0}, [1.0, 0.99995, 0.9998], [1, 0.1, 0.1]),
        ({"patience": 0, "threshold": 0.5}, [8, 5, 3.9], [1, 0.1, 0.1]),
        ({"patience": 0, "threshold": 2, "threshold_mode": "abs"}, [8, 6.5, 5], [1, 0.1, 0.1]),
        ({"patience": 0, "mode": "max"}, [1, 2, 2, 3], [1, 1, 0.1, 0.1]),
        ({"patience": 0, "mode": "max", "threshold": 0.5}, [1, 1.4, 1.6], [1, 0.1, 0.1]),
        ({"patience": 0, "cooldown": 2}, [1, 1, 1, 1, 1], [1, 0.1, 0.1, 0.1, 0.01]),
        ({"patience": 0, "min_lr": 0.05}, [1, 1, 1, 1], [1, 0.1, 0.05, 0.05]),
        ({"patience": 0, "eps": 0.5}, [1, 1, 1], [1, 0.1, 0.1]),
        ({"patience": 0}, [math.nan, 1, math.nan], [0.1, 0.1, 0.01]),
    ],
)
def test_reduce_lr_on_plateau(options, metrics, want):
    optimizer = optimizer_at(1.0)
    schedule = ReduceLROnPlateau(optimizer, **options)
    found = []
    for metric in metrics:
        schedule.step(metric)
        found.append(optimizer.lr)
    assert found == pytest.approx(want, rel=1e-14)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda o: StepLR(o, 0), ValueError, "step_size: expected at least 1, got 0"),
        (lambda o: StepLR(o, 2.5), TypeError, "step_size: expected an integer, got 2.5"),
        (lambda o: ExponentialLR(o, -1), ValueError, "gamma: expected at least 0.0, got -1.0"),
        (lambda o: ExponentialLR(o, 1, start=-1), ValueError, "start: expected at least 0, got -1"),
        (lambda o: CosineAnnealingLR(o, 0), ValueError, "T_max: expected at least 1, got 0"),
        (
            lambda o: ConstantLR(o, 2.0),
            ValueError,
            "factor: expected a number from 0.0 to 1.0, got",
        ),
        (lambda o: LinearWarmup(o, 0), ValueError, "total_iters: expected at least 1, got 0"),
        (
            lambda o: LinearWarmup(o, 1, after=StepLR(optimizer_at(1.0), 1)),
            ValueError,
            "after: expected a schedule of the same optimizer",
        ),
        (lambda o: StepLR(1.0, 1), TypeError, "optimizer: expected an Optimizer, got float"),
        (
            lambda o: ReduceLROnPlateau(1.0),
            TypeError,
            "optimizer: expected an Optimizer, got float",
        ),
        (
            lambda o: ReduceLROnPlateau(o, "best"),
            ValueError,
            "mode: expected 'min' or 'max', got '",
        ),
        (
            lambda o: ReduceLROnPlateau(o, factor=1.0),
            ValueError,
            "factor: expected a number from 0",
        ),
        (
            lambda o: ReduceLROnPlateau(o, threshold_mode="x"),
            ValueError,
            "threshold_mode: expected 'rel' or 'abs', got 'x'",
        ),
    ],
)
def test_schedules_check_their_arguments(make, error, message):
    with pytest.raises(error, match=f"^{message}"):
        make(optimizer_at(1.0))


@all_classes
def test_training_finds_the_weights_of_a_linear_map(optimizer_class):
    """The whole chain, gradients included: from other weights back to those of the teacher."""
    from fastrnn.losses import mse

    teacher = Linear(3, 2, dtype="float64", seed=1)
    student = Linear(3, 2, dtype="float64", seed=2)
    x = normal(40, 3)
    y = teacher(x)
    optimizer = optimizer_class(student, lr=0.02, weight_decay=0.0)
    if optimizer_class is SGD:
        optimizer.lr = 0.3
    schedule = ExponentialLR(optimizer, 0.99, start=400)
    for _ in itertools.repeat(None, 1500):
        prediction, pullback = student.vjp(x)
        pullback(mse(prediction, y)[1])
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    for name, array in teacher.state_dict().items():
        assert np.abs(student.parameters()[name].data - array).max() < 1e-5
