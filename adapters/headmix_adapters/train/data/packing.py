"""Several texts in one row, without any of them seeing another: positions begin again with each text.

transformers turns positions that begin again into a mask, for every kind of layer. Owns the rows, and the proof on the
base at hand that a text's states don't depend on the others in its row.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from headmix_adapters.inject.adapted import LanguageModel
from headmix_adapters.train.data.examples import IGNORED, Example
from headmix_adapters.train.errors import RecipeError

_CLOSE = 0.02
"""The largest difference, as a share of the states' own size, that rounding is allowed to make (bfloat16)."""
_TOKENS = 64


class PackedCollator:
    """Collates examples into rows of at most `width` tokens; a longer example has a row of its own."""

    def __init__(self, width: int) -> None:
        self._width = width

    def __call__(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Return input_ids (or prefix_states), position_ids, attention_mask and labels, padded on the right.

        The mask only counts the real tokens: padding has positions of its own, like another text.
        """
        rows = self._rows(examples)
        width = max(sum(len(example.input_ids) for example in row) for row in rows)
        return _inputs(rows, width) | {
            "position_ids": torch.tensor([_positions(row, width) for row in rows]),
            "attention_mask": torch.tensor([_padded(row, [1] * _length(row), width, 0) for row in rows]),
            "labels": torch.tensor([_padded(row, _labels(row), width, IGNORED) for row in rows]),
        }

    def _rows(self, examples: Sequence[Example]) -> list[list[Example]]:
        """Put each example into the first row that has room, the longest first."""
        rows: list[list[Example]] = []
        for example in sorted(examples, key=lambda example: len(example.input_ids), reverse=True):
            room = self._width - len(example.input_ids)
            row = next((row for row in rows if _length(row) <= room), None)
            if row is None:
                rows.append([example])
            else:
                row.append(example)
        return rows


@torch.no_grad()
def require_exact_packing(model: LanguageModel, examples: Sequence[Example], base: str) -> None:
    """Make sure that a text's states are the same alone and behind another text.

    Raises:
        RecipeError: they are not; the base is named.
    """
    ids = max((example.input_ids for example in examples), key=len)[:_TOKENS]
    device, count = model.model.device, len(ids)
    training = model.model.training
    nn.Module.train(model.model, mode=False)
    alone = model.hidden_states(torch.tensor([ids], device=device), torch.ones(1, count, device=device), None)
    both = torch.tensor([[*reversed(ids), *ids]], device=device)
    positions = torch.tensor([[*range(count), *range(count)]], device=device)
    behind = model.hidden_states(both, None, None, positions)[:, count:]
    nn.Module.train(model.model, mode=training)
    if float((behind - alone).abs().max()) > _CLOSE * float(alone.abs().max()):
        raise RecipeError(f"training.packing: texts in one row would see each other on {base}; train without packing")


def _length(row: Sequence[Example]) -> int:
    return sum(len(example.input_ids) for example in row)


def _inputs(rows: Sequence[Sequence[Example]], width: int) -> dict[str, Tensor]:
    states = [[example.prefix_states for example in row if example.prefix_states is not None] for row in rows]
    if all(len(kept) == len(row) for kept, row in zip(states, rows, strict=True)):
        return {"prefix_states": nn.utils.rnn.pad_sequence([torch.cat(row) for row in states], batch_first=True)}
    ids = [[token for example in row for token in example.input_ids] for row in rows]
    return {"input_ids": torch.tensor([_padded(row, own, width, 0) for row, own in zip(rows, ids, strict=True)])}


def _positions(row: Sequence[Example], width: int) -> list[int]:
    counts = [*(len(example.input_ids) for example in row), width - _length(row)]
    return [position for count in counts for position in range(count)]


def _labels(row: Sequence[Example]) -> list[int]:
    """Return the labels; a text's first token has none, since what comes before it is another text."""
    labels: list[int] = []
    for example in row:
        if not isinstance(example.labels, list):
            raise TypeError("only answers are packed")
        labels += [IGNORED, *example.labels[1:]]
    return labels


def _padded(row: Sequence[Example], values: list[int], width: int, filler: int) -> list[int]:
    return [*values, *[filler] * (width - _length(row))]
