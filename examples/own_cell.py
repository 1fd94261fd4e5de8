"""A recurrent cell of one's own, in NumPy
=======================================

The minimal gated unit, trained on the adding problem. The cell (Zhou, Wu, Zhang & Zhou 2016,
"Minimal gated unit for recurrent neural networks", eq. 5)
has one gate where a GRU has two::

    f = sigmoid(W_f x_t + U_f h + b_f)
    n = tanh(W_n x_t + U_n (f * h) + b_n)
    h' = (1 - f) * h + f * n

``fastrnn.RecurrentLoop`` runs it over sequences: as many layers and directions as one likes, with
lengths, masks and resets. The task (Hochreiter & Schmidhuber 1997, section 5.4): of a sequence of
random numbers, two are marked; their sum is wanted after the last step. Who always answers 1 has a
mean squared error of 1/6.
"""

import numpy as np

import fastrnn


def sigmoid(a):
    return 0.5 * (1 + np.tanh(0.5 * a))


class MGU(fastrnn.Cell):
    """x_t (B, I) and h (B, H) to h' (B, H), which is the output as well as the state."""

    def __init__(self, input_size, hidden_size, dtype="float32", seed=None):
        super().__init__(input_size, hidden_size, dtype=dtype)  # the state: one array (B, H)
        rng = np.random.default_rng(seed)
        for name, rows, columns in (
            ("weight_ih", 2 * hidden_size, input_size),  # W_f above W_n
            ("weight_hf", hidden_size, hidden_size),  # U_f
            ("weight_hn", hidden_size, hidden_size),  # U_n
        ):
            bound = hidden_size**-0.5
            self.register_parameter(name, rng.uniform(-bound, bound, (rows, columns)))
        self.register_parameter("bias", np.repeat([-1, 0], hidden_size))  # at first, remember

    def vjp(self, x, state):
        (h,) = state
        weights = self.parameters()
        w, u_f, u_n, b = (p.data for p in weights.values())
        f_x, n_x = np.split(x @ w.T + b, 2, axis=1)
        f = sigmoid(f_x + h @ u_f.T)
        n = np.tanh(n_x + (f * h) @ u_n.T)
        new = (1 - f) * h + f * n

        def pullback(dy, dstate):
            d_new = dy + dstate[0]  # the new h went both ways
            d_n = d_new * f * (1 - n * n)
            d_fh = d_n @ u_n
            d_f = (d_new * (n - h) + d_fh * h) * f * (1 - f)
            d_x = np.concatenate([d_f, d_n], axis=1)
            weights["weight_ih"].add_grad(d_x.T @ x)
            weights["weight_hf"].add_grad(d_f.T @ h)
            weights["weight_hn"].add_grad(d_n.T @ (f * h))
            weights["bias"].add_grad(d_x.sum(axis=0))
            return d_x @ w, (d_new * (1 - f) + d_fh * f + d_f @ u_f,)

        return (new, (new,)), pullback


def make_batch(rng, length, batch):
    """Rows of 2/3 of the length up to all of it; one marked number in each half."""
    lengths = rng.integers(2 * length // 3, length + 1, batch)
    x = np.zeros((length, batch, 2), np.float32)
    x[..., 0] = rng.random((length, batch))
    marked = rng.integers(0, lengths // 2), rng.integers(lengths // 2, lengths)
    rows = np.arange(batch)
    for times in marked:
        x[times, rows, 1] = 1
    return x, lengths, sum(x[times, rows, 0] for times in marked)[:, None]


def check():
    """Return the largest error of the cell's gradients against finite differences."""
    cell, rng = MGU(3, 4, dtype="float64", seed=0), np.random.default_rng(0)
    return max(fastrnn.check_gradients(cell, rng.normal(size=(5, 3))).values())


def plot(errors, answer, target):
    """Draw the errors during training, and the answers to new sequences."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:  # the picture is an extra
        return
    _, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3.6), width_ratios=(1.4, 1))
    left.semilogy(errors, linewidth=1)
    left.axhline(1 / 6, color="gray", linestyle=":")
    left.text(len(errors), 1 / 6, "always 1", ha="right", va="bottom", color="gray")
    left.set(xlabel="step", ylabel="mean squared error", title="Training")
    right.plot([0, 2], [0, 2], color="gray", linewidth=1)
    right.scatter(target, answer, s=4)
    right.set(xlabel="sum", ylabel="answer", title="1000 new sequences", aspect="equal")
    plt.show()


def main(steps=1200, length=30, hidden_size=32, batch=64, seed=0, draw=False):
    """Train; return the mean squared error on new sequences."""
    rng = np.random.default_rng(seed)
    recurrent = fastrnn.RecurrentLoop(MGU(2, hidden_size, seed=rng))
    linear = fastrnn.Linear(hidden_size, 1, seed=rng)
    parameters = [*recurrent.parameters().values(), *linear.parameters().values()]
    optimizer = fastrnn.optim.Adam(parameters, lr=0.01)
    errors = []
    for step in range(1, steps + 1):
        x, lengths, target = make_batch(rng, length, batch)
        (_, h), pull_recurrent = recurrent.vjp(x, lengths=lengths)
        answer, pull_linear = linear.vjp(h[-1])  # the state of the last layer, after each row's end
        optimizer.zero_grad()
        d_answer = 2 * (answer - target) / batch
        pull_recurrent(None, pull_linear(d_answer)[None])
        fastrnn.optim.clip_grad_norm(parameters, 1.0)
        optimizer.lr = 0.01 * min(1.0, 2 * (1 - step / (steps + 1)))
        optimizer.step()
        errors.append(np.mean((answer - target) ** 2))
        if step % 200 == 0:
            print(f"step {step:5d}  mean squared error {errors[-1]:.4f}")
    x, lengths, target = make_batch(rng, length, 1000)
    _, h = recurrent(x, lengths=lengths)
    answer = linear(h[-1])
    if draw:
        plot(errors, answer, target)
    return float(np.mean((answer - target) ** 2))


if __name__ == "__main__":
    print(f"largest error of a gradient: {check():.1e} of finite differences")
    error = main(draw=True)
    print(
        f"mean squared error on 1000 new sequences: {error:.5f} (always answering 1: {1 / 6:.5f})"
    )
