"""Exchange a model's recurrent modules for fastrnn's, and back, by changing their class alone.

The objects stay: hooks, optimizers, shared modules, tied weights, `state_dict` and `training` know
nothing of it. What is not one of PyTorch's classes themselves:

- A user's class `Mine(torch.nn.LSTM)` is replaced by a class of the same name with the bases
  `(Mine, fastrnn.interop.torch.LSTM)`: in its method resolution order ours stands between the
  user's and PyTorch's, so `super().forward` reaches ours. No module can be imported from which
  `pickle` would take that class, so such objects say how to make it again.
- `torch.nn.utils.parametrize` gives each module a class of its own, which holds the parameters as
  properties and is undone by taking its first base: it is made again on the exchanged base.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from .cells import GRUCell, LSTMCell, RNNCell
from .modules import GRU, LSTM, RNN
from .reasons import dtype_reason, tensor_reason

__all__ = ["Report", "accelerate", "restore"]

# Each class of PyTorch that has one here, and the other way round.
_OURS = {getattr(nn, c.__name__): c for c in (RNN, LSTM, GRU, RNNCell, LSTMCell, GRUCell)}
_THEIRS = {ours: theirs for theirs, ours in _OURS.items()}
_NAMES = {c.__name__ for c in _THEIRS}


@dataclass(frozen=True, repr=False)
class Report:
    """What `accelerate` or `restore` did; printed, it is a table.

    Attributes
    ----------
    target : str
        Whose kernels run the replaced modules now: ``"fastrnn"`` or ``"PyTorch"``.
    replaced : dict of str to type
        The name of each module that was replaced, as of ``model.named_modules()`` (the model itself
        is ``""``), and its new class. A module with several names has its first.
    left : dict of str to str
        The recurrent modules that were left as they are, and why.
    falls_back : dict of str to str
        The replaced modules whose weights are of a device or dtype that PyTorch's own code goes on
        serving, and why; they use fastrnn as soon as they are moved.
    """

    target: str
    replaced: dict[str, type]
    left: dict[str, str]
    falls_back: dict[str, str]

    def __repr__(self) -> str:
        total = len(self.replaced) + len(self.left)
        title = f"{len(self.replaced)} of {total} recurrent modules changed to {self.target}"
        notes = {name: f"for now run by PyTorch: {why}" for name, why in self.falls_back.items()}
        rows = [(name, cls.__name__, notes.get(name, "")) for name, cls in self.replaced.items()]
        rows += [(name, "left", why) for name, why in self.left.items()]
        rows = [(name or "(the model)", kind, note) for name, kind, note in rows]
        widths = [max((len(row[i]) for row in rows), default=0) for i in (0, 1)]
        lines = [
            f"  {n:{widths[0]}}  {kind:{widths[1]}}  {note}".rstrip() for n, kind, note in rows
        ]
        return "\n".join([title, *lines])


def accelerate(model: Any) -> Report:
    """Let fastrnn run the RNN, LSTM, GRU and cell modules in a model, in place.

    Parameters
    ----------
    model : torch.nn.Module
        Changed in place: each module of `torch.nn`'s six recurrent classes, or of a class derived
        from one, `model` itself included, gets the class of the same name of
        `fastrnn.interop.torch`. Wrapped models (`torch.compile`, `DistributedDataParallel`,
        fully sharded) are entered. As always in PyTorch, modules in plain lists or dicts are not
        found; the report says how many were.

    Returns
    -------
    Report
        What was replaced and what was left, with the reason. What is accelerated already is left.

    Raises
    ------
    TypeError
        `model` is not a `torch.nn.Module`.

    See Also
    --------
    restore : Undoes it.
    explain : Says for one module and input why PyTorch would run it.
    """
    return _exchange(model, "fastrnn", _accelerated, _why_left)


def restore(model: Any) -> Report:
    """Give the modules that `accelerate` changed their classes back, in place.

    Modules that were made by the classes of `fastrnn.interop.torch` become PyTorch's as well.

    Parameters
    ----------
    model : torch.nn.Module
        Changed in place.

    Returns
    -------
    Report
        What was replaced; left are modules of classes that a user derived from fastrnn's.

    Raises
    ------
    TypeError
        `model` is not a `torch.nn.Module`.

    See Also
    --------
    accelerate : What this undoes.
    """
    return _exchange(model, "PyTorch", _restored, _why_kept)


def _exchange(
    model: Any,
    target: str,
    new_class: Callable[[type], type],
    why_not: Callable[[Any], str | None],
) -> Report:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    report = Report(target, {}, {}, {})
    for name, module in model.named_modules():
        if (why := why_not(module)) is not None:
            if why:
                report.left[name] = why
            continue
        try:
            cls = new_class(type(module))
            object.__setattr__(module, "__class__", cls)
        except TypeError as error:  # of classes that Python cannot combine
            report.left[name] = f"{type(module).__name__} cannot be exchanged: {error}"
            continue
        report.replaced[name] = cls
        if target == "fastrnn" and (why := _weights_reason(module)):
            report.falls_back[name] = why
    return report


def _why_left(module: Any) -> str | None:
    """Why `accelerate` leaves a module: None if it does not, "" if it is not recurrent at all."""
    cls = type(module)
    if issubclass(cls, tuple(_THEIRS)):
        return "is accelerated already"
    if issubclass(cls, tuple(_OURS)):
        return "its forward was replaced on the object" if "forward" in vars(module) else None
    if isinstance(module, torch.jit.ScriptModule):
        return "is compiled by TorchScript" if module.original_name in _NAMES else ""
    if cls.__module__.startswith("torch.ao.nn.") and cls.__name__ in _NAMES:
        return "is quantized"
    if issubclass(cls, (nn.RNNBase, nn.modules.rnn.RNNCellBase)):
        return f"{cls.__qualname__} is not one of {', '.join(sorted(_NAMES))}"
    return ""


def _why_kept(module: Any) -> str | None:
    """Why `restore` leaves a module: None if it does not, "" if it does not use fastrnn."""
    cls = _base_of_parametrized(type(module)) or type(module)
    if not issubclass(cls, tuple(_THEIRS)):
        return ""
    if cls in _THEIRS or _Between in cls.__bases__:
        return None
    return f"{cls.__qualname__} is derived from fastrnn's class"


def _weights_reason(module: Any) -> str | None:
    """Why weights like the module's first are left to PyTorch."""
    first = next(module.parameters(recurse=False), None)
    if first is None:
        return None
    return dtype_reason(first.dtype) or tensor_reason("a weight", first, first.dtype)


def _accelerated(cls: type) -> type:
    if cls in _OURS:
        return _OURS[cls]
    if base := _base_of_parametrized(cls):
        return _on_other_base(cls, _accelerated(base))
    return _between(cls)


def _restored(cls: type) -> type:
    if cls in _THEIRS:
        return _THEIRS[cls]
    if base := _base_of_parametrized(cls):
        return _on_other_base(cls, _restored(base))
    return cls.__bases__[1]


# --- Classes of torch.nn.utils.parametrize -------------------------------------------------------


def _base_of_parametrized(cls: type) -> type | None:
    """Return the class that a module had before it was parametrized, None if it was not."""
    made = any(
        isinstance(v, property) and v.fget.__module__ == parametrize.__name__
        for v in vars(cls).values()
    )
    return cls.__bases__[0] if made else None


def _on_other_base(cls: type, base: type) -> type:
    kept = {k: v for k, v in vars(cls).items() if k not in ("__dict__", "__weakref__")}
    return type(cls)(cls.__name__, (base,), kept)


# --- Classes of users ----------------------------------------------------------------------------


class _Between:
    """First base of what stands for a user's class; the user's is the second, ours the third."""

    # No __slots__ = (): a module can only be given a class whose first base has a __dict__ as
    # torch.nn.Module has.

    def __init_subclass__(cls) -> None:
        """Keep a user's `__init_subclass__`, which may enter classes somewhere, out of this."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        reduced = super().__reduce_ex__(protocol)
        cls = type(self)
        if isinstance(reduced, str) or _Between not in cls.__bases__:
            return reduced
        function, args, *state = reduced
        users = cls.__bases__[1]
        args = tuple(users if arg is cls else arg for arg in args)
        return (_make, (users if function is cls else function, *args), *state)


_made: weakref.WeakValueDictionary[type, type] = weakref.WeakValueDictionary()


def _between(users: type) -> type:
    """Return the class that stands for a user's class, one for each."""
    if users not in _made:
        ours = next(_OURS[base] for base in users.__mro__ if base in _OURS)
        names = ("__module__", "__qualname__", "__doc__")
        space = {name: getattr(users, name) for name in names}
        made = type(users)(users.__name__, (_Between, users, ours), space)
        _made[users] = made
        return made  # the dictionary alone would not keep it
    return _made[users]


def _make(function: Callable[..., Any], *args: Any) -> Any:
    """Make an object again that stands for a user's (called by pickle and copy)."""
    module = function(*args)
    object.__setattr__(module, "__class__", _accelerated(type(module)))
    return module
