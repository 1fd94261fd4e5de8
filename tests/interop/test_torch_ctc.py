"""ctc_loss beside PyTorch's."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from fastrnn.losses import ctc_loss  # noqa: E402

# Ours is computed in double, theirs in the arrays' own dtype: logarithms about -100, which in
# float32 are 8e-6 apart, are rounded in each of 40 frames and then given to exp.
DTYPES = [("float32", 3e-4), ("float64", 1e-12)]
REDUCTIONS = ["mean", "sum", "none"]
T, B, C, S = 40, 7, 9, 12


def case(dtype, blank):
    rng = np.random.default_rng(3)
    logits = (2.0 * rng.standard_normal((T, B, C))).astype(dtype)
    targets = rng.choice([k for k in range(C) if k != blank], (B, S))
    targets[1, :4] = targets[1, 0]
    return (
        logits,
        targets,
        np.array([40, 40, 31, 25, 24, 40, 3]),
        np.array([12, 11, 12, 5, 0, 1, 1]),
    )


def compare(got, want, leaf, tolerance):
    loss, gradient = got
    want.sum().backward()
    want = want.detach().numpy()
    assert np.abs(loss - want).max() <= tolerance * np.abs(want).max()
    theirs = leaf.grad.numpy()
    assert np.abs(gradient - theirs).max() <= tolerance * np.abs(theirs).max()


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("blank", [0, C - 1])
@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_with_logits(dtype, tolerance, blank, padded, reduction):
    logits, targets, frames, counts = case(dtype, blank)
    if not padded:
        targets = np.concatenate([row[:n] for row, n in zip(targets, counts, strict=True)])
    leaf = torch.tensor(logits, requires_grad=True)
    want = torch.nn.functional.ctc_loss(
        torch.log_softmax(leaf, -1),
        *map(torch.tensor, (targets, frames, counts)),
        blank=blank,
        reduction=reduction,
    )
    compare(ctc_loss(logits, targets, frames, counts, blank, reduction), want, leaf, tolerance)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_with_log_probabilities(dtype, tolerance, reduction):
    """What PyTorch calls the gradient with respect to log_probs is ours, too."""
    logits, targets, frames, counts = case(dtype, 0)
    log_probs = torch.log_softmax(torch.tensor(logits), -1).requires_grad_()
    want = torch.nn.functional.ctc_loss(
        log_probs, *map(torch.tensor, (targets, frames, counts)), reduction=reduction
    )
    got = ctc_loss(log_probs.detach().numpy(), targets, frames, counts, reduction=reduction)
    compare(got, want, log_probs, tolerance)


@pytest.mark.parametrize("zero_infinity", [False, True])
def test_without_an_alignment(zero_infinity):
    logits, targets, frames, counts = case("float64", 0)
    frames[0] = 5
    leaf = torch.tensor(logits, requires_grad=True)
    want = torch.nn.functional.ctc_loss(
        torch.log_softmax(leaf, -1),
        *map(torch.tensor, (targets, frames, counts)),
        reduction="none",
        zero_infinity=zero_infinity,
    )
    want.sum().backward()
    options = {"reduction": "none", "zero_infinity": zero_infinity}
    losses, gradient = ctc_loss(logits, targets, frames, counts, **options)
    assert np.isinf(losses[0]) != zero_infinity
    assert np.allclose(losses, want.detach().numpy(), rtol=1e-12, atol=0.0)
    # log_softmax's backward makes NaN of the frames past the length, too; ours are zero.
    assert not gradient[5:, 0].any()
    assert np.isnan(gradient[:5, 0]).all() != zero_infinity
    assert np.allclose(gradient[:, 1:], leaf.grad.numpy()[:, 1:], rtol=0.0, atol=1e-12)


def test_unbatched():
    logits, targets, _, _ = case("float64", 0)
    leaf = torch.tensor(logits[:, 0], requires_grad=True)
    want = torch.nn.functional.ctc_loss(
        torch.log_softmax(leaf, -1), torch.tensor(targets[0]), torch.tensor(T), torch.tensor(S)
    )
    compare(ctc_loss(logits[:, 0], targets[0], T, S), want, leaf, 1e-12)
