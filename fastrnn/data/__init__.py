"""Sequences as batches: padding, packing and masks, parallel streams, and loaders.

Names, arguments and layouts of padding and packing are those of ``torch.nn.utils.rnn``. Lengths of
zero are legal.
"""

from .batches import Batch, Loader, StreamLoader
from .frames import sequences_from_frame
from .padding import (
    PackedSequence,
    lengths_to_mask,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
    unpack_sequence,
    unpad_sequence,
)
from .prefetch import prefetch
from .ragged import RaggedArray, write_ragged
from .sequences import SequenceLoader, as_loader
from .streams import Streams, split
from .windows import WindowLoader, sliding_windows

__all__ = [
    "Batch",
    "Loader",
    "PackedSequence",
    "RaggedArray",
    "SequenceLoader",
    "StreamLoader",
    "Streams",
    "WindowLoader",
    "as_loader",
    "lengths_to_mask",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "prefetch",
    "sequences_from_frame",
    "sliding_windows",
    "split",
    "unpack_sequence",
    "unpad_sequence",
    "write_ragged",
]
