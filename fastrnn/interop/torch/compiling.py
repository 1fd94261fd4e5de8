"""What torch.compile is to leave alone.

Unless `torch._dynamo.config.allow_rnn` is set, torch.compile does not look into modules that are an
RNN, LSTM or GRU: it calls them between its graphs, as Python, and would then compile what they
call, function by function, which is of no use here.
"""

from __future__ import annotations

from types import CodeType, FunctionType, ModuleType

import torch

__all__ = ["leave_uncompiled"]


def leave_uncompiled(module: ModuleType, but: tuple[str, ...] = ()) -> None:
    """Mark the functions and methods of a module, except those of the names `but`."""
    for code in _codes_of(vars(module).values(), module.__name__):
        if code.co_name not in but:
            _skip(code)


def _skip(code: CodeType) -> None:
    """Let the code, and what it calls, run as it is."""
    frames = torch._C._dynamo.eval_frame
    if hasattr(frames, "set_code_exec_strategy"):
        skip = frames._FrameAction.SKIP
        frames.set_code_exec_strategy(code, frames._FrameExecStrategy(skip, skip))
    elif hasattr(frames, "skip_code"):  # before torch 2.8
        frames.skip_code(code)


def _codes_of(values: object, module: str) -> list[CodeType]:
    """Return the code of functions, of methods of classes, and of what is defined within."""
    found: list[CodeType] = []
    for value in values:  # type: ignore[attr-defined]
        value = getattr(value, "__func__", value)  # of static and class methods
        if isinstance(value, FunctionType) and value.__module__ == module:
            found += _with_inner(value.__code__)
        elif isinstance(value, type) and value.__module__ == module:
            found += _codes_of(vars(value).values(), module)
    return found


def _with_inner(code: CodeType) -> list[CodeType]:
    inner = [c for c in code.co_consts if isinstance(c, CodeType)]
    return [code, *(c for one in inner for c in _with_inner(one))]
