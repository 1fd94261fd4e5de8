"""Which sequences go side by side: batches of similar lengths, with a bound on their padding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Buckets"]

Integers = NDArray[np.int64]


class Buckets:
    """Sequences by falling length, cut into buckets within which any of them may meet.

    Of each sequence no more is padded than to the longest of its bucket. So with buckets of n_k
    sequences, the longest h_k steps, an epoch has at most sum n_k h_k elements, whoever meets whom.
    The buckets are as wide as they can be with 1 - sum(lengths) / sum n_k h_k <= max_waste: each
    takes, beginning with the longest sequence left, as many as leave it a share of padding of at
    most `share`, a number found by bisection and the same for all; whole batches, if they are
    enough for one. A sequence of length 0 takes one step and counts as if it were real.

    Parameters
    ----------
    lengths : ndarray of int64, (N,)
    batch_size : int
        B: of a bucket of n sequences, the first batches have B, the last what is left.
    max_waste : float
        From 0 to 1.
    drop_last : bool
        Whether only batches of B count; of the last bucket, fewer than B sequences are left out.

    Attributes
    ----------
    batches : ndarray of int64, (number of batches, 2)
        Begin and end of each in the order of an epoch.

    Raises
    ------
    ValueError
        With `drop_last`, if there is no full batch, or none of full batches keeps `max_waste`.
    """

    def __init__(
        self, lengths: Integers, batch_size: int, max_waste: float, drop_last: bool
    ) -> None:
        self._steps = np.maximum(lengths, 1)
        self._lengths = lengths
        self._order = np.argsort(-self._steps, kind="stable")
        self._sorted = self._steps[self._order]
        self._sums = np.concatenate([[0], np.cumsum(self._sorted)])
        self._size, self._full = batch_size, drop_last
        if drop_last and len(lengths) < batch_size:
            raise ValueError(
                f"batch_size: expected at most the {len(lengths)} sequences there are with "
                f"drop_last, got {batch_size}"
            )
        self._stops = self._widest(max_waste)
        self.batches = self._cut_batches(self._stops)

    def _widest(self, max_waste: float) -> Integers:
        """Return where the widest buckets end that keep `max_waste`."""
        low, high = 0.0 if self._full else max_waste, 1.0
        best, widest = self._cut(low), self._cut(high)
        if self._waste(widest) <= max_waste:
            return widest
        if self._full and self._waste(best) > max_waste:
            raise ValueError(
                f"max_waste: batches of exactly {self._size} (drop_last) waste up to "
                f"{self._waste(best):.3f}, got {max_waste}"
            )
        for _ in range(10):  # to a thousandth
            share = (low + high) / 2
            stops = self._cut(share)
            if self._waste(stops) <= max_waste:
                low, best = share, stops
            else:
                high = share
        return best

    def _cut(self, share: float) -> Integers:
        """Return where buckets end, each with a share of padding of at most `share`."""
        N, B = len(self._sorted), self._size
        stops, start = [], 0
        while start < N:
            n, left = self._most(start, share), N - start
            if self._full:
                n = max(n, B)
            if n < left and n >= B:
                n -= n % B
            if self._full and left - n < B:
                n = left
            start += n
            stops.append(start)
        return np.array(stops, np.int64)

    def _most(self, start: int, share: float) -> int:
        """Return how many from `start` on have a mean of at least 1 - share of the longest."""
        least = (1.0 - share) * float(self._sorted[start])
        low, high = 1, len(self._sorted) - start  # the mean falls with each that is added
        while low < high:
            n = (low + high + 1) // 2
            if float(self._sums[start + n] - self._sums[start]) >= least * n:
                low = n
            else:
                high = n - 1
        return low

    def _waste(self, stops: Integers) -> float:
        """Return the share of padding that no epoch exceeds."""
        starts = np.concatenate([[0], stops[:-1]])
        longest = self._sorted[starts]
        elements, steps = int((stops - starts) @ longest), int(self._sums[-1])
        if self._full:  # at worst, the longest of the last bucket are left out
            left = len(self._sorted) % self._size
            elements -= left * int(longest[-1])
            steps -= int(self._sums[starts[-1] + left] - self._sums[starts[-1]])
        return 1.0 - steps / elements

    def _cut_batches(self, stops: Integers) -> Integers:
        begins = [
            np.arange(start, stop, self._size)
            for start, stop in zip([0, *stops[:-1]], stops, strict=True)
        ]
        ends = [
            np.minimum(begin + self._size, stop) for begin, stop in zip(begins, stops, strict=True)
        ]
        batches = np.stack([np.concatenate(begins), np.concatenate(ends)], axis=1)
        return batches[np.diff(batches)[:, 0] == self._size] if self._full else batches

    def epoch(self, rng: np.random.Generator | None) -> tuple[Integers, Integers]:
        """Return the sequences in an epoch's order, and its batches as begin and end in that.

        Without a generator, the longest come first, and those of the same length in their order.
        """
        if rng is None:
            return self._order, self.batches
        order = self._order.copy()
        start = 0
        for stop in self._stops:
            rng.shuffle(order[start:stop])
            start = stop
        return order, self.batches[rng.permutation(len(self.batches))]

    def waste(self, rng: np.random.Generator | None) -> float:
        """Return the share of padding among all elements of an epoch."""
        order, batches = self.epoch(rng)
        begins, ends = np.sort(batches, axis=0).T
        order = order[: ends[-1]]  # of which the batches leave nothing out
        longest = np.maximum.reduceat(self._steps[order], begins)
        return 1.0 - float(self._lengths[order].sum()) / float((ends - begins) @ longest)
