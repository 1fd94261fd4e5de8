"""Checkpoints: the whole state of a training in one file, replaced in one step.

A file is in the safetensors format: the arrays (weights, buffers of the optimiser, carried states)
under their places in the state, and one entry "fastrnn_checkpoint" in its metadata, a JSON object
of the format's number and the rest of the state. Nothing is ever unpickled or evaluated.
"""

from __future__ import annotations

import contextlib
import glob
import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base import check_size
from ..serialization import open_safetensors, safetensors_modules, write_atomically
from .callbacks import Callback

if TYPE_CHECKING:
    from .trainer import Trainer

__all__ = ["Checkpoint", "read_checkpoint", "write_checkpoint"]

FORMAT = 1
ENTRY = "fastrnn_checkpoint"
FILE = "checkpoint.safetensors"
MAX_DEPTH = 50  # of the nested state


def write_checkpoint(path: str | os.PathLike[str], state: dict[str, Any]) -> None:
    """Write a nested state of dicts, lists, tuples, numbers, strings, None and arrays to a file.

    Whatever happens, `path` has the old or the new content.

    Parameters
    ----------
    path : str or os.PathLike
    state : dict
        Keys are strings; arrays of real numbers.

    Raises
    ------
    OSError
        If the file cannot be written: the disk is full, say. The message names the file.
    TypeError
        If the state holds anything else.
    """
    arrays: dict[str, Any] = {}
    text = json.dumps({"format": FORMAT, "state": _packed(state, "", arrays)}, allow_nan=False)
    content = safetensors_modules().numpy.save(arrays, {ENTRY: text})
    try:
        write_atomically(path, content)
    except OSError as error:
        kept = "; the one before it is as it was" if os.path.exists(path) else ""
        raise OSError(
            error.errno, f"{os.fspath(path)}: cannot write the checkpoint ({error.strerror}){kept}"
        ) from error


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what `write_checkpoint` wrote.

    Parameters
    ----------
    path : str or os.PathLike

    Returns
    -------
    dict

    Raises
    ------
    ValueError
        If the file is damaged or no checkpoint; the message names the file.
    OSError
        If it cannot be read.
    """
    with open_safetensors(path) as file:
        try:
            description = json.loads((file.metadata() or {}).get(ENTRY, "null"))
            if not isinstance(description, dict) or description.get("format") != FORMAT:
                raise ValueError(f"expected a checkpoint of format {FORMAT}")
            state = _unpacked(description.get("state"), file, set(file.keys()), 0)
        except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise ValueError(f"{os.fspath(path)}: no checkpoint ({error})") from error
    if not isinstance(state, dict):
        raise ValueError(f"{os.fspath(path)}: no checkpoint (expected a dict of states)")
    return state


def _packed(value: Any, place: str, arrays: dict[str, Any]) -> Any:
    """Return what JSON holds of a state; its arrays go to `arrays`, under their places."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "fiub":
            raise TypeError(f"{place}: expected an array of real numbers, got {value.dtype}")
        while place in arrays:  # {"a": {"b": ...}, "a/b": ...}
            place += "'"
        arrays[place] = np.ascontiguousarray(value).reshape(value.shape)
        return {"array": place}
    if isinstance(value, (list, tuple)):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_packed(v, f"{place}/{i}", arrays) for i, v in enumerate(value)]}
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"{place}: expected strings as keys, got {list(value)!r:.60}")
        return {"dict": {k: _packed(v, f"{place}/{k}", arrays) for k, v in value.items()}}
    raise TypeError(f"{place}: expected numbers, strings, arrays or containers, got {value!r}")


def _unpacked(value: Any, file: Any, left: set[str], depth: int) -> Any:
    """Return the state that `_packed` packed; ValueError for what it does not write.

    Each array is taken once, so that the memory is bounded by the size of the file.
    """
    if depth > MAX_DEPTH:
        raise ValueError("the state is nested too deeply")
    if not isinstance(value, dict):
        if isinstance(value, list):
            raise ValueError("the state holds a bare list")
        return value
    ((kind, content),) = value.items()
    if kind == "array":
        if content not in left:
            raise ValueError(f"the array {content!r} is missing or used twice")
        left.remove(content)
        return file.get_tensor(content)
    if kind == "float":
        return float(_text(content))
    if kind == "dict" and isinstance(content, dict):
        return {key: _unpacked(v, file, left, depth + 1) for key, v in content.items()}
    if kind in ("list", "tuple") and isinstance(content, list):
        parts = [_unpacked(v, file, left, depth + 1) for v in content]
        return parts if kind == "list" else tuple(parts)
    raise ValueError(f"the state holds an unknown {kind!r}")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected a string, got {value!r}")
    return value


class Checkpoint(Callback):
    """Writes the whole state of a training to a folder, after each epoch and every so many steps.

    Training that goes on from it, ``fit(..., checkpoint=folder, resume=True)``, gives the same bits
    as if it had never been interrupted.

    Parameters
    ----------
    folder : str or os.PathLike
        Made if it does not exist. The file in it is "checkpoint.safetensors".
    every : int, optional
        Number of steps between two checkpoints within an epoch; none by default.
    """

    def __init__(self, folder: str | os.PathLike[str], every: int | None = None) -> None:
        self.folder = Path(folder)
        self.path = self.folder / FILE
        self.every = None if every is None else check_size("checkpoint_every", every)
        self._written = -1  # the step it holds

    def prepare(self) -> None:
        """Make the folder and see that one can write there; OSError names it if not."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            probe = self.folder / f"{FILE}.{os.getpid()}.probe"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise type(error)(
                error.errno, f"checkpoint: cannot write to {self.folder} ({error.strerror})"
            ) from error
        for leftover in glob.glob(f"{glob.escape(str(self.path))}.*.tmp"):  # of a killed process
            with contextlib.suppress(OSError):
                os.unlink(leftover)

    def on_step(self, trainer: Trainer) -> None:
        """Write if it is due."""
        if self.every is not None and trainer.step % self.every == 0:
            self._write(trainer)

    def on_epoch(self, trainer: Trainer) -> None:
        """Write."""
        self._written = -1  # the epoch's end is not what the last step of it left
        self._write(trainer)

    def on_fit_end(self, trainer: Trainer) -> None:
        """Write what the last one lacks, where training was stopped within an epoch."""
        self._write(trainer)

    def _write(self, trainer: Trainer) -> None:
        if self._written == trainer.step:
            return
        trainer.check_finite_weights()
        write_checkpoint(self.path, trainer.state_dict())
        self._written = trainer.step
