"""Many to many, in step: where a ball is moving
=============================================

Told at each frame of a film::

    python examples/moving_ball.py

A ball flies through a box of 12 x 12 pixels, bounces off its walls, and is kicked now and then. At
each frame the network names one of eight directions of the compass. One frame alone shows where the
ball is and nothing of where it goes: a network that sees each frame alone can only guess.
"""

import numpy as np

import fastrnn
from fastrnn import data, losses, optim

SIZE, RADIUS = 12, 1.0
DIRECTIONS = ["E", "NE", "N", "NW", "W", "SW", "S", "SE"]


def films(count: int, longest: int, rng: np.random.Generator):
    """Return frames (T, B, pixels), directions (T, B) and lengths (B,) of films.

    The direction at a frame is that of the way from the frame before it; the first has none.
    """
    lengths = rng.integers(longest // 2, longest + 1, count)
    place = rng.uniform(2, SIZE - 3, (count, 2))
    way = velocities(count, rng)
    frames = np.zeros((longest, count, SIZE * SIZE), np.float32)
    directions = np.zeros((longest, count), np.int64)
    for t in range(longest):
        kicked = rng.random(count) < 0.05
        way[kicked] = velocities(int(kicked.sum()), rng)
        out = (place + way < 0.5) | (place + way > SIZE - 1.5)
        way[out] *= -1
        if t > 0:
            place = place + way
        frames[t] = render(place)
        angle = np.arctan2(way[:, 1], way[:, 0])
        directions[t] = np.round(angle / (np.pi / 4)).astype(np.int64) % 8
    return frames, directions, lengths


def velocities(count: int, rng: np.random.Generator):
    """Return ways from one frame to the next (count, 2): 0.6 to 1.2 pixels anywhere."""
    angle, speed = rng.uniform(0, 2 * np.pi, count), rng.uniform(0.6, 1.2, count)
    return np.stack([speed * np.cos(angle), speed * np.sin(angle)], axis=1)


def render(place):
    """Return pixels (B, SIZE * SIZE) of blurred balls at places (B, 2) of x and y."""
    pixels = np.arange(SIZE)
    x = np.exp(-(((pixels - place[:, :1]) / RADIUS) ** 2) / 2)
    y = np.exp(-(((pixels - place[:, 1:]) / RADIUS) ** 2) / 2)
    return (y[:, :, None] * x[:, None, :]).reshape(len(place), -1)


def make_model() -> fastrnn.Sequential:
    return fastrnn.Sequential(
        fastrnn.Linear(SIZE * SIZE, 48, seed=1),
        fastrnn.LSTM(48, 64, seed=2),
        fastrnn.Residual(fastrnn.LSTM(64, 64, seed=3)),
        fastrnn.Linear(64, 8, seed=4),
    )


def train(model, steps: int, with_memory: bool, batch: int = 32, longest: int = 30) -> None:
    """Train on films that are drawn anew for each step."""
    parameters = model.parameters()
    optimizer = optim.Adam(parameters, lr=4e-3)
    schedule = optim.CosineAnnealingLR(optimizer, steps)
    rng = np.random.default_rng(5)
    for step in range(steps):
        frames, directions, lengths = films(batch, longest, rng)
        mask = data.lengths_to_mask(lengths, longest)
        mask[0] = False
        if not with_memory:
            frames, directions, mask, lengths = alone(frames, directions, mask)
        (logits, _), pullback = model.vjp(frames, lengths=lengths)
        loss, d_logits = losses.cross_entropy(logits, directions, mask=mask)
        optimizer.zero_grad()
        pullback(d_logits)
        optim.clip_grad_norm(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if with_memory and (step + 1) % 200 == 0:
            print(f"step {step + 1}: loss {loss:.3f}")


def alone(frames, directions, mask):
    """Return every frame as a film of its own."""
    one = (1, mask.size)
    return frames.reshape(*one, -1), directions.reshape(one), mask.reshape(one), None


def accuracy(model, with_memory: bool, films_of_test) -> float:
    frames, directions, lengths = films_of_test
    mask = data.lengths_to_mask(lengths, len(frames))
    mask[0] = False
    if not with_memory:
        frames, directions, mask, lengths = alone(frames, directions, mask)
    logits, _ = model(frames, lengths=lengths)
    return float((logits.argmax(axis=-1) == directions)[mask].mean())


def plot(model, films_of_test) -> None:
    """Draw a film with the way the ball came (green) and the answer (red where it differs)."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:  # the picture is an extra
        return
    frames, directions, _ = films_of_test
    shown = max(range(frames.shape[1]), key=lambda film: len(set(directions[1:15, film])))
    film, directions = frames[:15, shown], directions[:15, shown]
    answers = model(film)[0].argmax(axis=-1)
    figure, axes = plt.subplots(2, 7, figsize=(9, 3))
    figure.suptitle("Where the ball goes: true (green, long) and named (white, or red if wrong)")
    for t, panel in enumerate(axes.flat, 1):
        pixels = film[t].reshape(SIZE, SIZE)
        y, x = np.unravel_index(pixels.argmax(), pixels.shape)
        panel.imshow(pixels, cmap="viridis", origin="lower")
        named = "white" if answers[t] == directions[t] else "red"
        for direction, color, length in ((directions[t], "limegreen", 4), (answers[t], named, 2)):
            way = np.array([np.cos(direction * np.pi / 4), np.sin(direction * np.pi / 4)])
            arrow = {"color": color, "width": 1, "headwidth": 6, "headlength": 6}
            panel.annotate(
                "", (x, y) + length * way, (x, y), arrowprops=arrow, annotation_clip=False
            )
        panel.text(-0.2, SIZE - 0.8, t, color="white", va="top")
        panel.set(xticks=[], yticks=[])
    plt.show()


def main(steps: int = 800, draw: bool = False) -> float:
    """Train and return the share of the test frames whose direction is named."""
    test = films(200, 30, np.random.default_rng(6))
    model, without = make_model(), make_model()
    train(model, steps, with_memory=True)
    train(without, steps, with_memory=False)

    frames, directions, lengths = test
    film = frames[: lengths[0], 0]
    logits, _ = model(film)
    print("a test film:", *(f"{DIRECTIONS[i]:2}" for i in directions[1 : lengths[0], 0]))
    print("its answers:", *(f"{DIRECTIONS[i]:2}" for i in logits.argmax(axis=-1)[1:]))
    right = accuracy(model, True, test)
    print(f"200 test films, frames named right {right:.1%}")
    print(f"without memory, each frame alone   {accuracy(without, False, test):.1%}")
    if draw:
        plot(model, test)
    return right


if __name__ == "__main__":
    main(draw=True)
