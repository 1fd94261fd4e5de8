"""cross_entropy and mse against their formulas."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.losses import cross_entropy, mse
from reference import central_difference

DTYPES = ["float32", "float64"]
SHAPES = [(1, 1), (1, 5), (7, 3), (4, 3, 6), (2, 1, 3, 65), (0, 4), (3, 0, 4)]
TOLERANCE = {"float32": 2e-6, "float64": 1e-14}
# Two means of up to 12 positive losses, summed in different orders in float64: each makes 11
# roundings in the sum and one in the division, by at most eps / 2, so that they are within 12 eps.
ANOTHER_ORDER = {"rel": 12 * np.finfo(np.float64).eps, "abs": 0.0}


def scores(*shape, seed=0, dtype="float64"):
    return (3.0 * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def labels(shape, seed=1):
    return np.random.default_rng(seed).integers(0, shape[-1], shape[:-1])


def nll(logits, targets):
    """Log of the sum of exponentials less the target's logit, row by row, in float64."""
    logits = logits.astype(np.float64)
    largest = logits.max(axis=-1, keepdims=True)
    log_sum = np.log(np.exp(logits - largest).sum(axis=-1)) + largest[..., 0]
    return log_sum - np.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_is_the_negative_log_likelihood(shape, dtype):
    logits, targets = scores(*shape, dtype=dtype), labels(shape)
    want = nll(logits, targets)
    scale = max(1.0, np.abs(logits).max(initial=0.0))
    losses, _ = cross_entropy(logits, targets, reduction="none")
    assert losses.dtype == np.dtype(dtype)
    assert losses.shape == shape[:-1]
    assert np.all(np.abs(losses - want) <= TOLERANCE[dtype] * scale)
    total, _ = cross_entropy(logits, targets, reduction="sum")
    assert abs(total - want.sum()) <= TOLERANCE[dtype] * scale * max(1, want.size)
    if want.size:
        mean, _ = cross_entropy(logits, targets)
        assert type(mean) is float
        assert abs(mean - want.mean()) <= TOLERANCE[dtype] * scale


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", SHAPES)
def test_cross_entropy_gradient(shape, reduction):
    logits, targets = scores(*shape), labels(shape)

    def loss():
        return np.sum(cross_entropy(logits, targets, reduction=reduction)[0])

    gradient = cross_entropy(logits, targets, reduction=reduction)[1]
    assert gradient.shape == shape
    assert np.allclose(gradient, central_difference(loss, logits), rtol=0.0, atol=1e-8)


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_gradient_is_softmax_less_onehot(dtype):
    logits, targets = scores(5, 7, dtype=dtype), labels((5, 7))
    exponentials = np.exp(logits.astype(np.float64))
    want = exponentials / exponentials.sum(axis=1, keepdims=True) - np.eye(7)[targets]
    gradient = cross_entropy(logits, targets, reduction="sum")[1]
    assert gradient.dtype == np.dtype(dtype)
    assert np.abs(gradient - want).max() <= TOLERANCE[dtype]
    mean_gradient = cross_entropy(logits, targets)[1]
    assert np.abs(mean_gradient - want / 5).max() <= TOLERANCE[dtype]


@given(
    keep=st.lists(st.booleans(), min_size=12, max_size=12),
    dtype=st.sampled_from(DTYPES),
    reduction=st.sampled_from(["mean", "sum", "none"]),
)
def test_cross_entropy_masked_is_that_of_the_rows_that_count(keep, dtype, reduction):
    mask = np.array(keep).reshape(3, 4)
    logits, targets = scores(3, 4, 5, dtype=dtype), labels((3, 4, 5))
    want, want_gradient = cross_entropy(logits[mask], targets[mask], reduction=reduction)
    # Whatever stands where nothing counts has no say.
    garbage = np.where(mask[..., None], logits, np.nan).astype(dtype)
    outside = np.where(mask, targets, 99)
    ignored = np.where(mask, targets, -100)
    for result, gradient in (
        cross_entropy(garbage, outside, mask=mask, reduction=reduction),
        cross_entropy(garbage, ignored, reduction=reduction),
        cross_entropy(garbage, ignored, mask=np.ones((3, 4), bool), reduction=reduction),
        cross_entropy(garbage, np.where(mask, targets, 7), ignore_index=7, reduction=reduction),
    ):
        if reduction == "none":
            assert np.array_equal(result[mask], want)
            assert not result[~mask].any()
        else:
            assert result == pytest.approx(want, **ANOTHER_ORDER, nan_ok=True)
        assert np.array_equal(gradient[mask], want_gradient)
        assert not gradient[~mask].any()


def test_cross_entropy_ignore_index_may_be_a_class():
    logits, targets = scores(6, 3), np.array([0, 2, 1, 2, 0, 2])
    want, want_gradient = cross_entropy(logits[targets != 2], targets[targets != 2])
    loss, gradient = cross_entropy(logits, targets, ignore_index=2)
    assert loss == pytest.approx(want, **ANOTHER_ORDER)
    assert np.array_equal(gradient[targets != 2], want_gradient)
    assert not gradient[targets == 2].any()


def test_cross_entropy_without_any_target_that_counts():
    for logits, targets in ((np.zeros((3, 4)), np.full(3, -100)), (np.zeros((0, 4)), [])):
        mean, gradient = cross_entropy(logits, targets)
        assert np.isnan(mean)  # the mean of nothing, as in PyTorch
        assert gradient.shape == logits.shape
        assert not gradient.any()
        assert cross_entropy(logits, targets, reduction="sum")[0] == 0.0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1e3, 1e30])
def test_cross_entropy_of_large_logits_is_exact(size, dtype):
    logits = np.array([[size, 0.0, -size], [size, size, 0.0], [-size, -size, -size]], dtype)
    losses, gradient = cross_entropy(logits, [0, 1, 2], reduction="none")
    assert losses == pytest.approx([0.0, np.log(2.0), np.log(3.0)], rel=1e-6)
    assert gradient[0].tolist() == [0.0, 0.0, 0.0]
    assert cross_entropy(logits[:1], [2], reduction="sum")[0] == pytest.approx(2.0 * size)


def test_cross_entropy_passes_nan_and_infinity_on():
    logits = np.array([[np.nan, 0.0], [0.0, np.nan], [0.0, -np.inf], [-np.inf, 0.0]])
    losses, gradient = cross_entropy(logits, [0, 0, 0, 0], reduction="none")
    assert np.isnan(losses[:2]).all()
    assert np.isnan(gradient[:2]).all()
    assert losses[2:].tolist() == [0.0, np.inf]
    assert gradient[2:].tolist() == [[0.0, 0.0], [-1.0, 1.0]]


def test_cross_entropy_takes_one_row_and_lists():
    loss, gradient = cross_entropy([1.0, 2.0], 1)
    assert loss == pytest.approx(np.log(1.0 + np.exp(-1.0)), rel=1e-6)
    assert gradient.shape == (2,)
    assert gradient.dtype == np.float32


def test_cross_entropy_leaves_its_arguments_alone():
    logits, targets = scores(4, 3), np.array([0, 1, 99, 2])
    mask = np.array([True, True, False, True])
    copies = logits.copy(), targets.copy(), mask.copy()
    cross_entropy(logits, targets, mask=mask)
    assert all(map(np.array_equal, (logits, targets, mask), copies))


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_rows_have_the_same_bits_in_any_batch(set_num_threads, dtype):
    logits, targets = scores(300, 65, dtype=dtype), labels((300, 65))
    set_num_threads(1)
    alone = [
        cross_entropy(row[None], [target], reduction="none")
        for row, target in zip(logits, targets, strict=True)
    ]
    losses = np.concatenate([loss for loss, _ in alone])
    gradients = np.concatenate([gradient for _, gradient in alone])
    for threads, rows in itertools.product((1, 2, 3), (1, 37, 300)):
        set_num_threads(threads)
        some_losses, some_gradients = cross_entropy(
            logits[-rows:], targets[-rows:], reduction="none"
        )
        assert np.array_equal(some_losses, losses[-rows:])
        assert np.array_equal(some_gradients, gradients[-rows:])


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((np.zeros((2, 3)), [0, 3]), {}, IndexError, "targets: expected classes from 0 to 2 or i"),
        ((np.zeros((2, 3)), [0, -1]), {}, IndexError, "targets: expected .* -100, got -1"),
        ((np.zeros((2, 3)), [0]), {}, ValueError, r"targets: expected the shape \(2,\), got \(1,"),
        ((np.zeros((2, 3)), [0.0, 1.0]), {}, TypeError, "targets: expected an array of integers"),
        ((np.zeros(()), 0), {}, ValueError, r"logits: expected the shape \(..., C\), got \(\)"),
        ((np.zeros((2, 0)), [0, 0]), {}, ValueError, r"logits: expected the shape \(..., C\), got"),
        ((np.zeros((2, 3), int), [0, 1]), {}, TypeError, "logits: expected an array of float32 or"),
        ((np.zeros((2, 3)), [0, 1]), {"mask": [1, 0]}, TypeError, "mask: expected an array of boo"),
        ((np.zeros((2, 3)), [0, 1]), {"mask": [True]}, ValueError, "mask: expected the targets' s"),
        ((np.zeros((2, 3)), [0, 1]), {"reduction": "max"}, ValueError, "reduction: expected 'mean"),
        ((np.zeros((2, 3)), [0, 1]), {"ignore_index": None}, TypeError, "ignore_index: expected a"),
    ],
)
def test_cross_entropy_refuses(arguments, options, error, message):
    with pytest.raises(error, match=f"^{message}"):
        cross_entropy(*arguments, **options)


MSE_SHAPES = [(1,), (7,), (3, 4), (2, 3, 5), (0, 3)]


@pytest.mark.parametrize("shape", MSE_SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_mse_is_the_squared_difference(shape, dtype):
    prediction, target = scores(*shape, dtype=dtype), scores(*shape, seed=1, dtype=dtype)
    difference = prediction.astype(np.float64) - target
    losses, gradient = mse(prediction, target, reduction="none")
    assert (losses.dtype, gradient.dtype) == (np.dtype(dtype),) * 2
    assert np.allclose(losses, difference**2, rtol=1e-5, atol=1e-12)
    total, _ = mse(prediction, target, reduction="sum")
    assert total == pytest.approx(float((difference**2).sum()), rel=1e-6)
    if difference.size:
        mean, gradient = mse(prediction, target)
        assert type(mean) is float
        assert mean == pytest.approx(float((difference**2).mean()), rel=1e-6)
        assert gradient.dtype == np.dtype(dtype)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", MSE_SHAPES)
def test_mse_gradient(shape, reduction):
    prediction, target = scores(*shape), scores(*shape, seed=1)

    def loss():
        return np.sum(mse(prediction, target, reduction=reduction)[0])

    gradient = mse(prediction, target, reduction=reduction)[1]
    want = central_difference(loss, prediction)
    assert gradient.shape == shape
    assert np.allclose(gradient, want, rtol=1e-8, atol=1e-8)


@given(
    keep=st.lists(st.booleans(), min_size=6, max_size=6),
    reduction=st.sampled_from(["mean", "sum", "none"]),
)
def test_mse_masked_is_that_of_the_elements_that_count(keep, reduction):
    mask = np.array(keep).reshape(2, 3)
    prediction, target = scores(2, 3, 4), scores(2, 3, 4, seed=1)
    want, want_gradient = mse(prediction[mask], target[mask], reduction=reduction)
    garbage = np.where(mask[..., None], prediction, np.nan)
    for some_mask in (mask, np.repeat(mask[..., None], 4, axis=2)):
        result, gradient = mse(garbage, target, mask=some_mask, reduction=reduction)
        if reduction == "none":
            assert np.array_equal(result[mask], want)
            assert not result[~mask].any()
        else:
            assert result == pytest.approx(want, rel=1e-13, nan_ok=True)
        assert np.array_equal(gradient[mask], want_gradient)
        assert not gradient[~mask].any()


def test_mse_of_nothing():
    mean, gradient = mse(np.ones(3), np.zeros(3), mask=np.zeros(3, bool))
    assert np.isnan(mean)
    assert gradient.tolist() == [0.0, 0.0, 0.0]
    assert np.isnan(mse(np.ones((0, 3)), np.ones((0, 3)))[0])


def test_mse_takes_lists_and_leaves_its_arguments_alone():
    prediction = np.array([1.0, 2.0], np.float32)
    loss, gradient = mse(prediction, [0, 4])
    assert loss == 2.5
    assert gradient.tolist() == [1.0, -2.0]
    assert prediction.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (
            (np.zeros(2), np.zeros(3)),
            {},
            ValueError,
            r"target: expected the prediction's shape \(2",
        ),
        ((np.zeros(2), np.zeros(2, "f4")), {}, TypeError, "target: expected an array of float64, "),
        (
            (np.zeros(2, int), [0, 0]),
            {},
            TypeError,
            "prediction: expected an array of float32 or f",
        ),
        (([0.0], [0.0]), {"mask": [[True]]}, ValueError, "mask: expected the prediction's leading"),
        (
            ([0.0], [0.0]),
            {"mask": [True, True]},
            ValueError,
            "mask: expected the prediction's lead",
        ),
        (
            ([0.0], [0.0]),
            {"mask": [1.0]},
            TypeError,
            "mask: expected an array of bool, got float64",
        ),
        (
            ([0.0], [0.0]),
            {"reduction": None},
            ValueError,
            "reduction: expected 'mean', 'sum' or 'n",
        ),
    ],
)
def test_mse_refuses(arguments, options, error, message):
    with pytest.raises(error, match=f"^{message}"):
        mse(*arguments, **options)
