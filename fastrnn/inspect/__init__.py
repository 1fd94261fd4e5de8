"""What goes on inside a recurrent network: gradient flow, gates and cells, interpretable cells.

Numbers first: every picture is drawn from what another function here returns. Plots need matplotlib
(``pip install 'fastrnn[viz]'``) and come back as figures; nothing is shown or written. Models are
read only: weights, gradients and results stay as they are.

Not imported by ``import fastrnn``: use ``from fastrnn import inspect``.
"""

from .cells import (
    PROPERTIES,
    Activations,
    CellScore,
    activations,
    find_cells,
)
from .gates import Capture, Saturation, capture, saturation
from .gradients import GradientFlow, gradient_flow, spectral_radius
from .page import color_text
from .plots import plot_gradient_flow, plot_saturation

__all__ = [
    "PROPERTIES",
    "Activations",
    "Capture",
    "CellScore",
    "GradientFlow",
    "Saturation",
    "activations",
    "capture",
    "color_text",
    "find_cells",
    "gradient_flow",
    "plot_gradient_flow",
    "plot_saturation",
    "saturation",
    "spectral_radius",
]
