"""Which files of a model folder hold its weights: one answer for fingerprint, serving, training and conversion.

The names are transformers' own: `model.safetensors`, or the shards that `model.safetensors.index.json` lists. No other
file is part of the base (other precisions, other tools' formats, adapters). Reads no tensor.
"""

from pathlib import Path

from headmix_adapters.base.errors import BaseError
from headmix_adapters.base.json_file import read_json_object

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


def weight_files(folder: Path) -> tuple[Path, ...]:
    """Return the folder's weight files, in the order of their names.

    An index whose shards are missing, left behind when a small model is saved over a large one, is ignored if the
    single file exists.

    Raises:
        BaseError: there are none, shards are missing, or both forms are complete and could be different models.
    """
    single, shards = folder / SINGLE, indexed_files(folder)
    if not shards:
        if not single.is_file():
            raise BaseError(f"{folder} has neither {SINGLE} nor {INDEX}{_hint(folder)}")
        return (single,)
    missing = [path for path in shards if not path.is_file()]
    if not single.is_file() or single in shards:
        if missing:
            raise BaseError(f"{folder / INDEX} names {missing[0].name}, which is not in the folder")
        return shards
    if not missing:
        raise BaseError(
            f"{folder} has two sets of weights, {SINGLE} and the {len(shards)} files that {INDEX} names: "
            "remove the one you don't mean"
        )
    return (single,)


def indexed_files(folder: Path) -> tuple[Path, ...]:
    """Return the shards that the folder's index names, whether or not they exist; none if there is no index.

    Raises:
        BaseError: the index cannot be read, is empty, or names something other than a file next to it.
    """
    index = folder / INDEX
    if not index.exists():
        return ()
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise BaseError(f"{index} has no weight_map")
    names = {str(name) for name in weight_map.values()}
    if outside := [name for name in names if Path(name).name != name]:
        raise BaseError(f"{index} names {min(outside)}, which is not a plain file name")
    return tuple(folder / name for name in sorted(names))


def _hint(folder: Path) -> str:
    """Return what the folder contains instead, for the error message."""
    others = sorted(path.name for path in folder.glob("*.safetensors"))
    if "adapter_model.safetensors" in others:
        return "; adapter_model.safetensors is an adapter, not a base: convert it with `headmix convert`"
    if others:
        return f"; {others[0]} is not read: weights have one of these two names, as save_pretrained writes them"
    if any(any(folder.glob(pattern)) for pattern in ("*.bin", "*.pt", "*.pth")):
        return "; its weights are pickle files, which are never read: save the model as safetensors"
    return ""
