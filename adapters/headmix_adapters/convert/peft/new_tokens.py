"""Rows of tokens that training added to the vocabulary, among the tensors of a PEFT adapter.

Owns the two forms, PEFT's trained rows (`trainable_token_indices`) and whole embeddings longer than the base's, and
the conditions under which an artifact's added tokens compute the same: the rows begin where the base's vocabulary
ends, and the base's output head is tied to them.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoConfig

from headmix_adapters.artifact.checks.strict_json import parse_strict
from headmix_adapters.artifact.faults import quoted
from headmix_adapters.base import ResolvedBase
from headmix_adapters.convert.checkpoint import BaseCheckpoint
from headmix_adapters.convert.errors import ConvertError
from headmix_adapters.convert.peft.base_copies import base_rows

FIELD = "trainable_token_indices"
TRAINED = ".token_adapter.trainable_tokens_delta"
_HEAD = re.compile(r"(?:.+\.)?(?:lm_head|score|classifier)")
Indices = tuple[int, ...] | Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class NewTokens:
    """The tokens' names and rows, and the saved tensors that they were read from."""

    names: tuple[str, ...] = ()
    rows: Tensor | None = None
    used: frozenset[str] = frozenset()


def read_indices(value: object) -> Indices:
    """Read the field's value: token ids, or ids by module.

    Raises:
        ConvertError: it is neither.
    """
    if not value:
        return ()
    if isinstance(value, dict):
        return {str(module): _ids(ids) for module, ids in value.items()}
    return _ids(value)


def new_tokens(
    saved: Mapping[str, Tensor],
    indices: Indices,
    base: ResolvedBase,
    checkpoint: BaseCheckpoint,
    names: tuple[str, ...],
    *,
    generates: bool,
) -> NewTokens:
    """Return the tokens beyond the base's vocabulary; none if the adapter added none.

    `names` are their names in order; `generates` says whether the adapter uses the vocabulary's head.

    Raises:
        ConvertError: rows of the base's own tokens were trained, or added tokens would not compute the same.
    """
    size = base.shape.vocab_size
    inputs: dict[int, Tensor] = {}
    outputs: dict[int, Tensor] = {}
    used: set[str] = set()
    for name in sorted(saved, key=lambda name: name.endswith(TRAINED)):  # trained rows replace those of whole tables
        module = name.removesuffix(TRAINED).removesuffix(".weight")
        rows = outputs if _HEAD.fullmatch(module) else inputs
        if name.endswith(TRAINED):
            ids = _indices_of(module, indices)
            if saved[name].dim() != 2 or saved[name].shape[0] != len(ids):
                raise ConvertError(name, f"its shape is {list(saved[name].shape)}, {FIELD} names {len(ids)} tokens")
            rows.update(zip(ids, saved[name], strict=True))
            used.add(name)
        elif base_rows(name, saved[name], checkpoint, size) and saved[name].shape[0] > size:
            rows.update(enumerate(saved[name][size:], size))
            used.add(name)
    if own := sorted(token for token in (*inputs, *outputs) if token < size):
        raise ConvertError(
            FIELD, f"token {own[0]} is one of the base's {size}: its trained row is not part of an artifact"
        )
    if not inputs:
        if indices:
            raise ConvertError(FIELD, "the file holds no rows of the input embedding for these tokens")
        return NewTokens()
    last = max(inputs)
    if missing := sorted(set(range(size, last)) - inputs.keys()):
        raise ConvertError(FIELD, f"token {missing[0]} has no row: added tokens follow the base's {size} without a gap")
    if generates:
        _require_tied(base, inputs, outputs)
    if len(names) != len(inputs):
        raise ConvertError(
            "added_tokens",
            f"{len(inputs)} rows lie beyond the base's vocabulary, and {len(names)} tokens are named: name them in "
            "order with --added-tokens, or save the tokenizer into the adapter's folder",
        )
    return NewTokens(names, torch.stack([inputs[token] for token in range(size, last + 1)]), frozenset(used))


def token_names(folder: Path, vocab_size: int) -> tuple[str, ...]:
    """Return the tokens beyond a vocabulary that the tokenizer in a folder names, in order of their ids.

    Raises:
        ConvertError: a file of the tokenizer cannot be read.
    """
    beyond: dict[int, str] = {}
    path = folder / "added_tokens.json"
    if path.is_file():
        beyond |= {number: name for name, number in _read(path).items() if isinstance(number, int)}
    path = folder / "tokenizer.json"
    if path.is_file():
        entries = _read(path).get("added_tokens")
        for entry in entries if isinstance(entries, list) else []:
            if isinstance(entry, dict) and isinstance(entry.get("id"), int) and isinstance(entry.get("content"), str):
                beyond[entry["id"]] = entry["content"]
    return tuple(name for number, name in sorted(beyond.items()) if number >= vocab_size)


def _require_tied(base: ResolvedBase, inputs: Mapping[int, Tensor], outputs: Mapping[int, Tensor]) -> None:
    if not AutoConfig.from_pretrained(base.folder).tie_word_embeddings:
        raise ConvertError(
            "tie_word_embeddings",
            "the base's output head is not tied to its embeddings: an artifact has no output rows for added tokens",
        )
    if differs := sorted(token for token, row in outputs.items() if not torch.equal(row, inputs.get(token, row[:0]))):
        raise ConvertError(
            "lm_head", f"token {differs[0]} has another row there than in the input embedding, to which it is tied"
        )


def _indices_of(module: str, indices: Indices) -> tuple[int, ...]:
    """Return the ids of a module's trained rows; a tied head's are those of the embedding it is tied to."""
    if not isinstance(indices, Mapping):
        return indices
    own = [ids for name, ids in indices.items() if module == name or module.endswith(f".{name}")]
    if not own and _HEAD.fullmatch(module) and len(indices) == 1:
        own = list(indices.values())
    if not own:
        raise ConvertError(FIELD, f"it names no tokens of {quoted(module)}, and the file has rows for it")
    return own[0]


def _ids(value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(token) is int and token >= 0 for token in value):
        raise ConvertError(FIELD, f"{quoted(json.dumps(value))} is not a list of token ids")
    return tuple(value)


def _read(path: Path) -> dict[str, object]:
    try:
        value = parse_strict(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConvertError(path.name, f"cannot be read: {quoted(str(error))}") from None
    return value if isinstance(value, dict) else {}
