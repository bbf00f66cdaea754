"""A model's dimensions, read from its folder's config.json, and the files that must lie next to it.

Reads transformers' file layout without transformers. Knows nothing about where the folder came from.
"""

from collections.abc import Mapping
from pathlib import Path

from headmix_adapters.base.errors import BaseError
from headmix_adapters.base.fingerprint import fingerprint
from headmix_adapters.base.json_file import read_json_object
from headmix_adapters.base.weight_files import SINGLE, weight_files
from headmix_adapters.config import BaseShape
from headmix_adapters.families import FAMILIES


def read_base_shape(name: str, folder: Path) -> BaseShape:
    """Return the dimensions and fingerprint of the model in a folder.

    Raises:
        BaseError: config.json, tokenizer.json or the safetensors weights are missing or invalid.
    """
    config = read_json_object(folder / "config.json")
    if not (folder / "tokenizer.json").is_file():
        raise BaseError(f"{folder} has no tokenizer.json; AutoTokenizer.from_pretrained(...).save_pretrained writes it")
    where = folder / "config.json"
    if (named := config.get("transformers_weights")) is not None:
        raise BaseError(f"{where}: transformers_weights is {named!r}; a base's weights are in {SINGLE} or its shards")
    hidden_size = _size(config, where, "hidden_size", "n_embd")
    num_heads = _size(config, where, "num_attention_heads", "n_head")
    num_kv_heads = _size(config, where, "num_key_value_heads", default=num_heads)
    if num_heads % num_kv_heads:
        raise BaseError(f"{where}: {num_heads} attention heads cannot share {num_kv_heads} key/value heads")
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise BaseError(f"{where} has no model_type")
    family = FAMILIES.get(model_type)
    mlp_width = 0 if family is None or family.mlp_ratio is None else family.mlp_ratio * hidden_size
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
        gated_mlp=family is None or family.gated_mlp,
    )


def _size(config: Mapping[str, object], where: Path, *names: str, default: int | None = None) -> int:
    """Return the first of `names` that config.json sets (null counts as absent); must be a positive integer."""
    found = {name: config[name] for name in names if config.get(name) is not None}
    if not found:
        if default is None:
            raise BaseError(f"{where} has no {names[0]}: not a single text model, or not a transformers config")
        return default
    name, value = next(iter(found.items()))
    if type(value) is not int or value < 1:
        raise BaseError(f"{where}: {name} is {value!r}, not a positive integer")
    return value
