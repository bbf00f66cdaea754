"""PEFT's BD-LoRA (`use_bdlora`): LoRAs of which one factor is block-diagonal, and its blocks alone are stored.

Owns the setting's fields, which factor of a module it means, and the stored form: the blocks' rows one below the other.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from headmix_adapters.artifact.faults import quoted
from headmix_adapters.convert.dense import block_diagonal
from headmix_adapters.convert.errors import ConvertError
from headmix_adapters.convert.peft.module_lora import Factor

FIELD = "use_bdlora"
_FIELDS = frozenset({"target_modules_bd_a", "target_modules_bd_b", "nblocks", "match_strict"})
_MAX_PATTERNS = 1024


@dataclass(frozen=True, slots=True)
class BlockDiagonal:
    """The number of blocks, and the texts that a module's name contains if its A, or its B, is block-diagonal.

    `strict`: PEFT refuses modules of which neither is.
    """

    blocks: int
    in_a: tuple[str, ...]
    in_b: tuple[str, ...]
    strict: bool

    def factor_of(self, module: str) -> Factor | None:
        """Return the block-diagonal factor of a module, or None for a plain LoRA.

        Raises:
            ConvertError: the setting contradicts itself for this module, as PEFT would say.
        """
        a, b = (any(text in module for text in texts) for texts in (self.in_a, self.in_b))
        if a and b:
            raise ConvertError(FIELD, f"{quoted(module)} is in both target_modules_bd_a and target_modules_bd_b")
        if self.strict and not (a or b):
            raise ConvertError(FIELD, f"{quoted(module)} is in neither list of modules, and match_strict is true")
        return "A" if a else "B" if b else None


def read_block_diagonal(value: object) -> BlockDiagonal | None:
    """Read the field's value; None if the adapter is a plain LoRA.

    Raises:
        ConvertError: a field of it is unknown or of the wrong type; it is named.
    """
    if not value:
        return None
    if not isinstance(value, dict):
        raise ConvertError(FIELD, f"{quoted(json.dumps(value))} is not an object")
    for name, setting in value.items():
        if setting and name not in _FIELDS:
            raise ConvertError(f"{FIELD}.{name}", f"{quoted(json.dumps(setting))} is not understood by this version")
    blocks, strict = value.get("nblocks", 1), value.get("match_strict", True)
    if type(blocks) is not int or blocks < 1:
        raise ConvertError(f"{FIELD}.nblocks", f"{quoted(json.dumps(blocks))} is not a positive integer")
    if not isinstance(strict, bool):
        raise ConvertError(f"{FIELD}.match_strict", f"{quoted(json.dumps(strict))} is neither true nor false")
    return BlockDiagonal(blocks, _texts(value, "target_modules_bd_a"), _texts(value, "target_modules_bd_b"), strict)


def _texts(value: Mapping[str, object], name: str) -> tuple[str, ...]:
    texts = value.get(name) or []
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ConvertError(f"{FIELD}.{name}", f"{quoted(json.dumps(texts))} is not a list of module names")
    if len(texts) > _MAX_PATTERNS:
        raise ConvertError(f"{FIELD}.{name}", f"{len(texts)} names; at most {_MAX_PATTERNS} are read")
    return tuple(texts)


def written_out(name: str, stored: Tensor, blocks: int) -> Tensor:
    """Return the block-diagonal matrix of stored blocks: [n * rows, columns] -> [n * rows, n * columns].

    Raises:
        ConvertError: its rows cannot be shared out among the blocks.
    """
    rows, columns = stored.shape
    if rows % blocks:
        raise ConvertError(name, f"its {rows} rows are not those of {blocks} blocks ({FIELD}.nblocks)")
    return block_diagonal(stored.view(blocks, rows // blocks, columns))


def only_blocks(matrix: Tensor, blocks: int) -> Tensor:
    """Return the blocks of a block-diagonal matrix as PEFT stores them: [n * rows, n * columns] -> [n * rows, columns].

    Raises:
        ConvertError: it has values beside the blocks.
    """
    rows, columns = matrix.shape[0] // blocks, matrix.shape[1] // blocks
    stored = torch.stack(
        [matrix[block * rows : (block + 1) * rows, block * columns : (block + 1) * columns] for block in range(blocks)]
    )
    if not torch.equal(block_diagonal(stored), matrix):
        raise ConvertError(FIELD, f"a factor is not the block-diagonal matrix of {blocks} blocks")
    return stored.view(-1, columns)
