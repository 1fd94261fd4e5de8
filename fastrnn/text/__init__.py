"""Character models: vocabulary, model, training by a recipe, sampling, saving and loading."""

from .models import TextModel, build_model, load_model, sample, save_model
from .recipe import CELLS, Recipe
from .training import Training
from .vocabulary import Vocabulary

__all__ = [
    "CELLS",
    "Recipe",
    "TextModel",
    "Training",
    "Vocabulary",
    "build_model",
    "load_model",
    "sample",
    "save_model",
]
