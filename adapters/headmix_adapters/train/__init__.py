"""Training: a recipe and data files in, a verified artifact out.

Importing it does not load torch; `train.run` and what it imports do. The command is `python -m headmix_adapters.train`.
"""

from headmix_adapters.train.errors import DataError, RecipeError, TrainError
from headmix_adapters.train.recipe.recipe import Recipe, load_recipe

__all__ = ["DataError", "Recipe", "RecipeError", "TrainError", "load_recipe"]
