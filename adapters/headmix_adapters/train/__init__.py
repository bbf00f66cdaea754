"""Training: a recipe and data files in, a verified artifact out.

Importing it loads no torch; `train.run` and what it builds on do. `python -m headmix_adapters.train` is the command.
"""

from headmix_adapters.train.errors import DataError, RecipeError, TrainError
from headmix_adapters.train.recipe.recipe import Recipe, load_recipe

__all__ = ["DataError", "Recipe", "RecipeError", "TrainError", "load_recipe"]
