"""The number of threads: torch's."""

from __future__ import annotations

import os

import torch

from ...threads import set_num_threads

__all__ = ["follow_threads"]

_seen: int | None = None
_FOLLOWS = "FASTRNN_NUM_THREADS" not in os.environ


def follow_threads() -> None:
    """Take over torch.set_num_threads, unless FASTRNN_NUM_THREADS says how many.

    Only what is new: between two changes of torch's number, `fastrnn.set_num_threads` stands.
    """
    global _seen
    count = torch.get_num_threads()
    if count != _seen and _FOLLOWS:
        _seen = count
        set_num_threads(count)
