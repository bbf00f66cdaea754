"""How many tokens a base can read at once, from its folder's config.json. Does not load transformers."""

from headmix_adapters.base.errors import BaseError
from headmix_adapters.base.json_file import read_json_object
from headmix_adapters.base.resolve import ResolvedBase
from headmix_adapters.families import FAMILIES

_NAMES = ("max_position_embeddings", "n_positions")
_PADDING = 1
"""The padding token's id if config.json gives none, as in transformers' RoBERTa."""


def base_positions(base: ResolvedBase) -> int | None:
    """Return the most tokens for which a base's positions are defined; None if its config does not say.

    Raises:
        BaseError: config.json cannot be read, or leaves no position for a token.
    """
    config = read_json_object(base.folder / "config.json")
    found = next((config[name] for name in _NAMES if config.get(name) is not None), None)
    if not isinstance(found, int):
        return None
    family = FAMILIES.get(base.shape.model_type)
    if family is not None and family.positions_after_padding:
        padding = config.get("pad_token_id")
        found -= (padding if isinstance(padding, int) else _PADDING) + 1
    if found < 1:
        raise BaseError(f"{base.folder / 'config.json'} leaves no position for a token")
    return found
