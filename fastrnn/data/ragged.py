"""Sequences of different lengths in one flat array, in memory or in files larger than it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._ragged import Rows
from ..base import integer_array

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["RaggedArray", "write_ragged"]

Array = NDArray[Any]
Integers = NDArray[np.int64]

HEADER = 256  # bytes of a .npy file before its data, whatever the length that is filled in at last


class RaggedArray:
    """Sequences of different lengths, one after the other in one array.

    The array may be memory-mapped and larger than memory: it is kept as it is, and a batch reads
    its own sequences only.

    Parameters
    ----------
    flat : ndarray, (steps, ...)
        C-contiguous, of numbers.
    offsets : array_like of int, (N + 1,)
        Rising; sequence n is ``flat[offsets[n] : offsets[n + 1]]``.

    Attributes
    ----------
    lengths : ndarray of int64, (N,)

    Raises
    ------
    ValueError
        For a `flat` that is not contiguous or has no axis, or `offsets` that do not rise or lie
        outside.
    TypeError
        For a `flat` that is no array of numbers, or `offsets` that are no integers.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.data import RaggedArray
    >>> words = RaggedArray(np.array([3, 1, 2, 9, 8]), [0, 3, 3, 5])
    >>> len(words), words.lengths, words[2]
    (3, array([3, 0, 2]), array([9, 8]))
    """

    def __init__(self, flat: Array, offsets: ArrayLike) -> None:
        bounds = integer_array("offsets", offsets)
        if not isinstance(flat, np.ndarray) or flat.dtype.kind not in "biufc":
            kind = flat.dtype if isinstance(flat, np.ndarray) else type(flat).__name__
            raise TypeError(f"flat: expected an array of numbers, got {kind}")
        if flat.ndim == 0 or not flat.flags.c_contiguous:
            raise ValueError(f"flat: expected a C-contiguous array, got the shape {flat.shape}")
        if bounds.ndim != 1 or len(bounds) < 2:
            raise ValueError(f"offsets: expected the shape (N + 1,), got {bounds.shape}")
        self.flat, self.offsets = flat, bounds
        self.rows = Rows(flat, bounds)  # where they lie, for loaders

    @property
    def lengths(self) -> Integers:
        """Length of each sequence."""
        return self.rows.lengths

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Array:
        n = range(len(self))[index]
        sequence: Array = self.flat[self.offsets[n] : self.offsets[n + 1]]
        return sequence

    def __iter__(self) -> Iterator[Array]:
        return (self[n] for n in range(len(self)))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the sequences into a new folder, as `write_ragged` does."""
        write_ragged(folder, self)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Open what `save` or `write_ragged` wrote, memory-mapped: sequences stay in their file.

        Nothing is ever unpickled, and the sizes in the files are compared with their own.

        Returns
        -------
        RaggedArray

        Raises
        ------
        FileNotFoundError
            If there is no such folder, or a file is missing.
        ValueError
            If a file is not what it should be, or they do not fit one another.
        """
        try:
            flat, offsets = (
                np.load(Path(folder) / f"{part}.npy", mmap_mode="r", allow_pickle=False)
                for part in ("flat", "offsets")
            )
            return cls(flat, offsets)
        except (ValueError, TypeError, EOFError) as error:
            raise ValueError(f"{folder}: not a folder of sequences: {error}") from error

    def __repr__(self) -> str:
        return f"RaggedArray(N={len(self)}, flat={self.flat.shape}, {self.flat.dtype})"


def write_ragged(folder: str | os.PathLike[str], sequences: Iterable[ArrayLike]) -> None:
    """Write sequences, one after the other, into a new folder for `RaggedArray.load`.

    Each may be made when its turn comes, so that all of them need no memory. The files, plain
    ``.npy``, are ``flat.npy`` (steps, ...) and ``offsets.npy`` (N + 1,). The folder has its name
    only when it is complete.

    Parameters
    ----------
    folder : path
        Must not exist yet.
    sequences : iterable of array_like, each (length, ...)
        At least one; all of one dtype and with the same axes after the first.

    Raises
    ------
    FileExistsError
        If the folder is there.
    ValueError, TypeError
        For sequences that are not alike, or no numbers.
    OSError
        If the files cannot be written.
    """
    target = Path(folder)
    if target.exists():
        raise FileExistsError(f"{target}: expected a new folder, got one that exists")
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    part.mkdir(parents=True)
    try:
        with open(part / "flat.npy", "xb") as file:
            offsets = _write_flat(file, sequences)
        np.save(part / "offsets.npy", offsets)
        part.rename(target)
    finally:
        if part.exists():
            for file_left in part.iterdir():
                file_left.unlink()
            part.rmdir()


def _write_flat(file: IO[bytes], sequences: Iterable[ArrayLike]) -> Integers:
    from .sources import plain_sequence

    file.write(bytes(HEADER))
    first, offsets = None, [0]
    for index, sequence in enumerate(sequences):
        array = plain_sequence(f"sequences[{index}]", sequence, first)
        first = array[:0] if first is None else first
        file.write(array.data)
        offsets.append(offsets[-1] + len(array))
    if first is None:
        raise ValueError("sequences: expected at least one, got none")
    file.seek(0)
    file.write(_header((offsets[-1], *first.shape[1:]), first.dtype))
    return np.array(offsets, np.int64)


def _header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """Return the head of a .npy file of version 1.0, HEADER bytes long (``numpy.lib.format``)."""
    described = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    start = b"\x93NUMPY\x01\x00" + (HEADER - 10).to_bytes(2, "little")
    return start + repr(described).encode().ljust(HEADER - 11) + b"\n"
