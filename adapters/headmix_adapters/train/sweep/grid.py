"""The runs of a sweep: every combination of the values in a recipe's `[sweep]`. Does not load torch."""

from dataclasses import dataclass
from itertools import product

import msgspec

from headmix_adapters.train.errors import RecipeError
from headmix_adapters.train.recipe.recipe import Recipe, SweepTable

FACTORS = (1 / 3, 1.0, 3.0)
"""Without `[sweep]`, the recipe's learning rate times each of these is tried."""
MAX_RUNS = 64


@dataclass(frozen=True, slots=True)
class Candidate:
    """One run: its number from 1, its recipe, and the values in which it differs from the others."""

    number: int
    recipe: Recipe
    values: dict[str, float | str]

    @property
    def label(self) -> str:
        """The values as a person reads them."""
        return ", ".join(f"{name} {_shown(value)}" for name, value in self.values.items())

    @property
    def name(self) -> str:
        """Its name among the sweep's runs, such as `02-0.001`."""
        return f"{self.number:02}-{'-'.join(_shown(value) for value in self.values.values())}"

    @property
    def file_name(self) -> str:
        """The name of its artifact."""
        return f"{self.name}.safetensors"


def candidates(recipe: Recipe) -> list[Candidate]:
    """Return the runs of a recipe's sweep, in a fixed order.

    Raises:
        RecipeError: there are too many, or one of them is no valid recipe.
    """
    table = recipe.sweep or SweepTable(
        learning_rate=tuple(float(f"{recipe.training.learning_rate * factor:.3g}") for factor in FACTORS)
    )
    axes = {name: values for name in ("preset", "rank", "learning_rate") if (values := getattr(table, name))}
    runs = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    if len(runs) > MAX_RUNS:
        raise RecipeError(f"sweep: {len(runs)} runs, more than the limit of {MAX_RUNS}")
    return [Candidate(number, _with_values(recipe, values), values) for number, values in enumerate(runs, 1)]


def _with_values(recipe: Recipe, values: dict[str, float | str]) -> Recipe:
    training = {name: value for name, value in values.items() if name == "learning_rate"}
    adapter = {name: value for name, value in values.items() if name != "learning_rate"}
    fields = msgspec.to_builtins(recipe)
    fields["training"] |= training
    fields["adapter"] |= adapter
    fields["sweep"] = None
    try:
        return msgspec.convert(fields, Recipe)
    except msgspec.ValidationError as error:
        raise RecipeError(f"sweep: {error}") from error


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"
