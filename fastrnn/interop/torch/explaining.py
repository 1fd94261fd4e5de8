"""What runs where, and why."""

from __future__ import annotations

from typing import Any

import torch

from .cells import _Cell, step_reason
from .modules import _Recurrent, forward_reason

__all__ = ["explain"]

KERNELS = "fastrnn"
NEVER = "torch: not reached by this call"


def explain(model: torch.nn.Module, *args: Any, **kwargs: Any) -> dict[str, str]:
    """Call a model and say for each recurrent module in it what ran: the kernels, or torch and why.

    Parameters
    ----------
    model : torch.nn.Module
        Or a recurrent module itself.
    *args, **kwargs
        What the model is called with.

    Returns
    -------
    dict
        From the name of each recurrent module (of its class, if it is the model itself) to
        "fastrnn", or to "torch: " and the reason. Of several calls of one module, the first that
        went through torch.

    Raises
    ------
    TypeError
        If model is no torch.nn.Module.
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    found: dict[str, str] = {}
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, (torch.nn.RNNBase, torch.nn.RNNCellBase)):
            key = name or type(module).__name__
            found[key] = NEVER

            def note(module: torch.nn.Module, args: Any, kwargs: Any, key: str = key) -> None:
                if found[key] in (NEVER, KERNELS):
                    found[key] = _what_runs(module, args, kwargs)

            handles.append(module.register_forward_pre_hook(note, with_kwargs=True))
    try:
        model(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _what_runs(module: torch.nn.Module, args: Any, kwargs: Any) -> str:
    if isinstance(module, _Recurrent):
        reason = forward_reason(module, *args, **kwargs)
    elif isinstance(module, _Cell):
        reason = step_reason(module, *args, **kwargs)
    else:
        reason = f"a {type(module).__name__} of torch, see accelerate"
    return KERNELS if reason is None else f"torch: {reason}"
