"""Optimisers, clipping of gradients, and schedules of the learning rate: PyTorch's formulas."""

from .optimizers import SGD, Adam, AdamW, Optimizer, RMSprop, clip_grad_norm, clip_grad_value
from .schedules import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearWarmup,
    ReduceLROnPlateau,
    Schedule,
    StepLR,
)

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "ConstantLR",
    "CosineAnnealingLR",
    "ExponentialLR",
    "LambdaLR",
    "LinearWarmup",
    "Optimizer",
    "RMSprop",
    "ReduceLROnPlateau",
    "Schedule",
    "StepLR",
    "clip_grad_norm",
    "clip_grad_value",
]
