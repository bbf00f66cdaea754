"""The recipe file of a job whose data has been checked, for `headmix train` in a worker's folder."""

from pathlib import Path

import msgspec

from headmix_adapters.train.recipe.recipe_file import write_recipe
from headmix_server.fine_tuning.request import FineTuning

FILE = "recipe.toml"


def recipe_of(request: FineTuning, folder: Path, *, base: str) -> Path:
    """Write the job's recipe into a folder that has its data files, named as the request names them.

    `base` is anything that `resolve_base` accepts on this machine; it must have the request's fingerprint.

    Raises:
        ValueError: the data has not been checked yet.
        TargetError: the file cannot be written.
    """
    if request.recipe is None:
        raise ValueError("the job's data has not been checked")
    path = folder / FILE
    write_recipe(path, msgspec.structs.replace(request.recipe, base=base), force=True)
    return path
