"""The tokens that a base declares in files other than tokenizer.json, in the order in which transformers adds them.

tokenizer_config.json, special_tokens_map.json and added_tokens.json overlap and contradict each other; this module
decides which of them counts. The order determines the ids of tokens that tokenizer.json lacks. The rules are
transformers' own.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tokenizers import AddedToken

NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")

Json = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class DeclaredTokens:
    """`roles` maps `bos_token` and so on to their text; `tokens` are all the tokens that must be matched whole."""

    roles: Mapping[str, str]
    tokens: tuple[AddedToken, ...]


def declared_tokens(
    config: Json, special_tokens_map: Json, added_tokens: Json, listed: Mapping[int, AddedToken]
) -> DeclaredTokens:
    """Return what the contents of the three files declare; an absent file is empty.

    `listed` are the added tokens of tokenizer.json by id.
    """
    decoder = config.get("added_tokens_decoder")
    if isinstance(decoder, Mapping):
        # A config that lists the added tokens is complete: the two older files are ignored.
        fields, by_id = dict(config), {int(number): _token(value) for number, value in decoder.items()}
    else:
        fields = {**config, **special_tokens_map}
        by_id = _older_tokens(fields, added_tokens) | dict(listed)
    roles = {name: token for name, value in _roles(fields) if (token := _token(value)) is not None}
    tokens = [token for _, token in sorted(by_id.items()) if token is not None]
    tokens += roles.values()
    tokens += [token for value in _without_role(fields) if (token := _token(value)) is not None]
    texts = {name: token.content for name, token in roles.items()}
    first: dict[str, AddedToken] = {}
    for token in tokens:
        token.special = token.special or token.content in texts.values()
        first.setdefault(token.content, token)
    return DeclaredTokens(texts, tuple(first.values()))


def _older_tokens(fields: Json, added_tokens: Json) -> dict[int, AddedToken | None]:
    """Return added_tokens.json by id; it has no flags, so a token is special if another file says so."""
    special = {token.content for value in _special_values(fields) if (token := _token(value)) is not None}
    return {
        number: AddedToken(text, normalized=text not in special, special=text in special)
        for text, number in added_tokens.items()
        if isinstance(number, int)
    }


def _special_values(fields: Json) -> list[object]:
    return [fields.get(name) for name in NAMES] + _without_role(fields)


def _roles(fields: Json) -> list[tuple[str, object]]:
    """Return the fields that name a token: first the standard seven, then a model's own, such as `image_token`."""
    own = fields.get("extra_special_tokens")
    usual = [(name, fields[name]) for name in NAMES if name in fields]
    others = [(name, value) for name, value in fields.items() if name.endswith("_token") and name not in NAMES]
    return usual + others + (list(own.items()) if isinstance(own, Mapping) else [])


def _without_role(fields: Json) -> list[object]:
    value = fields.get("extra_special_tokens") or fields.get("additional_special_tokens")
    return list(value) if isinstance(value, list) else []


def _token(value: object) -> AddedToken | None:
    """Return a token given as its text or as an object with flags; None for anything else."""
    if isinstance(value, str):
        return AddedToken(value, special=True) if value else None
    if not isinstance(value, Mapping) or not isinstance(value.get("content"), str):
        return None
    return AddedToken(value["content"], **{flag: bool(value[flag]) for flag in _FLAGS if flag in value})
