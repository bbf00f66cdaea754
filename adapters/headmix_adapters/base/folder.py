"""A model folder as it lies on disk: which files it must hold, and the base's shape read from config.json.

Owns the reading of transformers' file layout without transformers. Knows nothing of where the folder came from.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from headmix_adapters.base.errors import BaseError
from headmix_adapters.base.fingerprint import fingerprint
from headmix_adapters.config import BaseShape

PLAIN_MLP = frozenset({"gpt2", "bert", "roberta"})
"""The model types whose MLP has no gate: one projection in, one out."""

INDEX = "model.safetensors.index.json"


def read_base_shape(name: str, folder: Path) -> BaseShape:
    """Return the dimensions and fingerprint of the model in a folder.

    Raises:
        BaseError: config.json, tokenizer.json or the safetensors weights are missing or make no sense.
    """
    config = _read_object(folder / "config.json")
    if not (folder / "tokenizer.json").is_file():
        raise BaseError(f"{folder} has no tokenizer.json; AutoTokenizer.from_pretrained(...).save_pretrained writes it")
    where = folder / "config.json"
    hidden_size = _size(config, where, "hidden_size", "n_embd")
    num_heads = _size(config, where, "num_attention_heads", "n_head")
    num_kv_heads = _size(config, where, "num_key_value_heads", default=num_heads)
    if num_heads % num_kv_heads:
        raise BaseError(f"{where}: {num_heads} attention heads cannot share {num_kv_heads} key/value heads")
    model_type = config.get("model_type")
    mlp_width = 4 * hidden_size if model_type == "gpt2" else 0
    if not isinstance(model_type, str):
        raise BaseError(f"{where} has no model_type")
    return BaseShape(
        name=name,
        model_type=model_type,
        hidden_size=hidden_size,
        num_layers=_size(config, where, "num_hidden_layers", "n_layer"),
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=_size(config, where, "head_dim", default=hidden_size // num_heads),
        vocab_size=_size(config, where, "vocab_size"),
        fingerprint=fingerprint(weight_files(folder)),
        intermediate_size=_size(config, where, "intermediate_size", "n_inner", default=mlp_width),
        gated_mlp=model_type not in PLAIN_MLP,
    )


def weight_files(folder: Path) -> tuple[Path, ...]:
    """Return the folder's safetensors files: those its index names, else all of them, in the order of their names.

    Raises:
        BaseError: there are none, or the index names files that are not there.
    """
    files = _indexed_files(folder) if (folder / INDEX).exists() else sorted(folder.glob("*.safetensors"))
    if not files:
        pickled = any(any(folder.glob(pattern)) for pattern in ("*.bin", "*.pt", "*.pth"))
        hint = "; its weights are pickle files, which are never read: save the model as safetensors" if pickled else ""
        raise BaseError(f"{folder} has no .safetensors file{hint}")
    for path in files:
        if not path.is_file():
            raise BaseError(f"{folder / INDEX} names {path.name}, which is not in the folder")
    return tuple(files)


def _indexed_files(folder: Path) -> list[Path]:
    weight_map = _read_object(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise BaseError(f"{folder / INDEX} has no weight_map")
    names = {str(name) for name in weight_map.values()}
    if outside := [name for name in names if Path(name).name != name]:
        raise BaseError(f"{folder / INDEX} names {min(outside)}, which is not a plain file name")
    return [folder / name for name in sorted(names)]


def _read_object(path: Path) -> Mapping[str, object]:
    try:
        value: object = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise BaseError(f"{path.parent} has no {path.name}: it is not a model folder") from None
    except (OSError, ValueError) as error:
        raise BaseError(f"{path} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise BaseError(f"{path} is not a JSON object")
    return value


def _size(config: Mapping[str, object], where: Path, *names: str, default: int | None = None) -> int:
    """Return the first of `names` that config.json gives (null counts as absent); a positive integer."""
    found = {name: config[name] for name in names if config.get(name) is not None}
    if not found:
        if default is None:
            raise BaseError(f"{where} has no {names[0]}: not a single text model, or not a transformers config")
        return default
    name, value = next(iter(found.items()))
    if type(value) is not int or value < 1:
        raise BaseError(f"{where}: {name} is {value!r}, not a positive integer")
    return value
