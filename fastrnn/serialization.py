"""Models in files: `save`, `load` and `load_metadata`.

A file is in the safetensors format (https://huggingface.co/docs/safetensors): the weights under
their names, so that others can read them, and one entry "fastrnn" in its metadata, a JSON object
of the format's number, the library's version, the model and the user's own metadata::

    {"format": 1, "version": "0.1.0", "model": {"class": "GRU", "config": {...}}, "metadata": {}}

Of a quantised layer the matrices are BF16, or I8 with a scale for each row, "<name>_scale", F32.

Reading trusts nothing: only classes of a fixed table are built, and only after the shapes their
configuration asks for were found in the file. Nothing is ever unpickled or evaluated.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import Layer, Parameter
from .layers import build_layer, describe_layer, described_shapes
from .precision import FixedParameter

__all__ = ["load", "load_metadata", "save"]

FORMAT = 1
MAX_DEPTH = 100  # of the JSON of a model: a Sequential in a Sequential is three levels
_DTYPES = {"F32": "float32", "F64": "float64", "BF16": "bfloat16", "I8": "int8"}
_BF16 = np.dtype("<u2")  # which NumPy has only by its bits

Path = str | os.PathLike[str]


def save(layer: Layer, path: Path, metadata: Mapping[str, Any] | None = None) -> None:
    """Write a layer or a model, its weights and its configuration, to a file.

    The file is replaced in one step: whatever happens, `path` has the old or the new content.

    Parameters
    ----------
    layer : Layer
        A layer of this library; a `Sequential` for a model.
    path : str or os.PathLike
        Usually "....safetensors".
    metadata : mapping, optional
        Anything JSON can hold, for `load_metadata`.

    Raises
    ------
    TypeError
        If `layer` is no layer of this library, or JSON cannot hold `metadata`.
    ValueError
        If one parameter appears under two names, layers are nested more than 30 deep, or
        `metadata` holds NaN or infinite numbers.
    OSError
        If the file cannot be written.
    ImportError
        If the package safetensors is missing.
    """
    write_atomically(path, serialized(layer, metadata))


def serialized(layer: Layer, metadata: Mapping[str, Any] | None = None) -> bytes:
    """Return the content of the file that `save` writes."""
    parameters = layer.parameters() if isinstance(layer, Layer) else {}
    description = {
        "format": FORMAT,
        "version": library_version(),
        "model": describe_layer(layer),
        "metadata": dict(metadata or {}),
    }
    _check_depth(description["model"])
    try:
        text = json.dumps(description, allow_nan=False)
    except (RecursionError, TypeError, ValueError) as error:
        raise type(error)(f"metadata: expected what JSON can hold ({error})") from None
    if len({id(parameter) for parameter in parameters.values()}) < len(parameters):
        raise ValueError("layer: expected each parameter once, got one under several names")
    return _serialized(parameters, text)


def load(path: Path) -> Layer:
    """Read the layer or model that `save` wrote.

    Parameters
    ----------
    path : str or os.PathLike

    Returns
    -------
    Layer

    Raises
    ------
    ValueError
        If the file is damaged or none that `save` wrote; the message names the file and what is
        wrong.
    OSError
        If the file cannot be read.
    ImportError
        If the package safetensors is missing.
    """
    with open_safetensors(path) as file, _named_errors(path):
        model = _read_description(file)["model"]
        names = set(file.keys())
        dtypes: dict[str, str] = {}
        # Lazily: a hostile configuration may ask for any number of parameters of any size.
        for name, shape in described_shapes(model):
            if name not in names:
                raise ValueError(f"the weights {name} are missing")
            entry = file.get_slice(name)
            if tuple(entry.get_shape()) != shape:
                raise ValueError(f"{name}: expected the shape {shape}, got {entry.get_shape()}")
            dtypes[name] = _DTYPES.get(entry.get_dtype(), entry.get_dtype())
            if dtypes[name] == "int8":
                dtypes |= _scale_of(file, name, shape, names)
        unexpected = sorted(names - dtypes.keys())
        if unexpected:
            raise ValueError(f"unexpected weights {', '.join(unexpected)}")
        layer = build_layer(model)
        raw = _raw_tensors(path) if "bfloat16" in dtypes.values() else {}
        for name, parameter in layer.parameters().items():
            expected = _dtype_name(parameter)
            if dtypes[name] != expected:
                raise ValueError(f"{name}: expected {expected}, got {dtypes[name]}")
            if not isinstance(parameter, FixedParameter):
                parameter.data = file.get_tensor(name)
                continue
            scaled = parameter.scales is not None
            parameter.restore(
                name,
                raw[name] if expected == "bfloat16" else file.get_tensor(name),
                file.get_tensor(f"{name}_scale") if scaled else None,
            )
        return layer


def load_metadata(path: Path) -> dict[str, Any]:
    """Read the metadata that were given to `save`, without the weights.

    Parameters
    ----------
    path : str or os.PathLike

    Returns
    -------
    dict

    Raises
    ------
    ValueError, OSError, ImportError
        As of `load`.
    """
    with open_safetensors(path) as file, _named_errors(path):
        metadata: dict[str, Any] = _read_description(file)["metadata"]
        return metadata


# --- small weights --------------------------------------------------------------------------------


def _dtype_name(parameter: Parameter) -> str:
    if isinstance(parameter, FixedParameter):
        return "bfloat16" if parameter.values.dtype == _BF16 else parameter.values.dtype.name
    return parameter.dtype.name


def _serialized(parameters: Mapping[str, Parameter], text: str) -> bytes:
    """Return the content of a file with these weights and the description `text`."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, parameter in parameters.items():
        if not isinstance(parameter, FixedParameter):
            arrays[name] = parameter._array
            continue
        arrays[name] = parameter.values
        if parameter.scales is not None:
            arrays[f"{name}_scale"] = parameter.scales
    content: bytes = safetensors_modules().numpy.save(arrays, {"fastrnn": text})
    bf16 = [name for name, array in arrays.items() if array.dtype == _BF16]
    if not bf16:
        return content
    # safetensors.numpy takes their bits for integers: say in the header what they are.
    end = 8 + int.from_bytes(content[:8], "little")
    entries = json.loads(content[8:end])
    for name in bf16:
        entries[name]["dtype"] = "BF16"
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[end:]


def _scale_of(file: Any, name: str, shape: tuple[int, ...], names: set[str]) -> dict[str, str]:
    """Return name and dtype of the scales of integers; ValueError if they are not as such are."""
    scale = f"{name}_scale"
    if scale not in names:
        raise ValueError(f"the weights {scale} are missing")
    entry = file.get_slice(scale)
    if tuple(entry.get_shape()) != shape[:1] or entry.get_dtype() != "F32":
        raise ValueError(
            f"{scale}: expected float32 of the shape {shape[:1]}, "
            f"got {entry.get_dtype()} of the shape {tuple(entry.get_shape())}"
        )
    return {scale: "float32"}


def _raw_tensors(path: Path) -> dict[str, NDArray[np.uint16]]:
    """Return the bfloat16 arrays of a file, by their bits."""
    with open(path, "rb") as file:
        tensors = safetensors_modules().deserialize(file.read())
    return {
        name: np.frombuffer(tensor["data"], _BF16).reshape(tensor["shape"])
        for name, tensor in tensors
        if tensor["dtype"] == "BF16"
    }


def library_version() -> str:
    """Return the version of this library."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("fastrnn")
    except PackageNotFoundError:  # run from a source tree
        return "unknown"


def safetensors_modules() -> Any:
    """Return the package safetensors; ImportError says how to install it."""
    try:
        import safetensors
        import safetensors.numpy
    except ImportError:
        raise ImportError(
            "saving and loading models needs the package safetensors: pip install 'fastrnn[train]'"
        ) from None
    return safetensors


@contextlib.contextmanager
def open_safetensors(path: Path) -> Iterator[Any]:
    """Open a safetensors file; ValueError if it is none."""
    safetensors = safetensors_modules()
    with open(path, "rb"):  # errors of the file system, by their own names
        pass
    try:
        file = safetensors.safe_open(os.fspath(path), framework="numpy")
    except safetensors.SafetensorError as error:
        raise ValueError(f"{os.fspath(path)}: not a whole safetensors file ({error})") from None
    with file:
        yield file


@contextlib.contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Make whatever a hostile description raises a ValueError that names the file."""
    try:
        yield
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from error


def _read_description(file: Any) -> dict[str, Any]:
    """Return the JSON object of `save`, its outermost level checked."""
    text = (file.metadata() or {}).get("fastrnn")
    if text is None:
        raise ValueError("no fastrnn model (load_state_dict takes weights of other origin)")
    try:
        description = json.loads(text)
    except (RecursionError, ValueError) as error:
        raise ValueError(f"the description of the model is no JSON ({error})") from None
    if not isinstance(description, dict):
        raise ValueError("the description of the model is no JSON object")
    number = description.get("format")
    if type(number) is not int or number != FORMAT:
        raise ValueError(f"expected format {FORMAT}, got {number!r}: a file of another version")
    if "model" not in description or not isinstance(description.get("metadata"), dict):
        raise ValueError("the description of the model lacks an entry")
    _check_depth(description["model"])
    return description


def _check_depth(value: Any) -> None:
    """Raise ValueError if a description is nested so deeply that Python could not build it."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"the model is nested too deeply (more than {MAX_DEPTH} levels)")
        level = [
            child
            for parent in level
            if isinstance(parent, (dict, list))
            for child in (parent.values() if isinstance(parent, dict) else parent)
        ]


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that `path` has the old or the new content, never a part.

    Once this returns, the new content is on the disk. What a killed process leaves behind has the
    name `path`.<8 hexadecimal digits>.tmp.
    """
    target = os.path.realpath(path)  # replace what a link points to, not the link
    temporary = f"{target}.{secrets.token_hex(4)}.tmp"
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(os.path.dirname(target))


def _sync_folder(folder: str) -> None:
    """Have the folder's entries on the disk too, where the system can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
