"""Answers that a generator gives to held-out prompts, by greedy decoding, for the scores that compare texts.

Owns how many and how long: the first 200 prompts, and up to twice the longest expected answer, as far as the base has
positions.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from headmix_adapters.inject.adapted import IGNORED
from headmix_adapters.inject.backbone import positions_of
from headmix_adapters.text.base_text import BaseText
from headmix_adapters.train.data.examples import Example

MAX_PROMPTS = 200
_MAX_NEW = 512


@dataclass(frozen=True, slots=True)
class Decoded:
    """The model's answers and the data's, in the same order."""

    answers: list[str]
    expected: list[str]


@torch.no_grad()
def decode_answers(model: PreTrainedModel, text: BaseText, examples: Sequence[Example], batch_size: int) -> Decoded:
    """Return the answers of a generator as it is: with the adapter if one is attached, else the base's own."""
    pairs = [_prompt_and_answer(example) for example in examples[:MAX_PROMPTS]]
    longest = min(2 * max(len(answer) for _, answer in pairs), _MAX_NEW)
    end = text.tokenizer.end_token
    ends = sorted(text.tokenizer.eos_ids | (set() if end is None else {end}))
    options = GenerationConfig(  # type: ignore[no-untyped-call]  # no types there
        do_sample=False, eos_token_id=ends or None, pad_token_id=ends[0] if ends else 0
    )
    answers = [""] * len(pairs)
    with _evaluating(model, options):
        for numbers, most in _batches([len(prompt) for prompt, _ in pairs], longest, positions_of(model), batch_size):
            generated = _generate(model, [pairs[number][0] for number in numbers], most)
            for number, ids in zip(numbers, generated, strict=True):
                answers[number] = text.tokenizer.decode(_until_end(ids, ends))
    return Decoded(answers, [text.tokenizer.decode(_until_end(answer, ends)) for _, answer in pairs])


def _prompt_and_answer(example: Example) -> tuple[list[int], list[int]]:
    labels = cast("list[int]", example.labels)
    count = sum(label == IGNORED for label in labels)
    return example.input_ids[:count], example.input_ids[count:]


def _batches(
    lengths: Sequence[int], longest: int, positions: int | None, batch_size: int
) -> Iterator[tuple[list[int], int]]:
    """Yield numbers of prompts and how many tokens to generate; one with too few positions for all of them is alone."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    room = [longest if positions is None else min(longest, positions - length) for length in lengths]
    whole = [number for number in order if room[number] == longest]
    for start in range(0, len(whole), batch_size):
        yield whole[start : start + batch_size], longest
    yield from (([number], room[number]) for number in order if 0 < room[number] < longest)


def _generate(model: PreTrainedModel, prompts: Sequence[Sequence[int]], most: int) -> list[list[int]]:
    """Return what follows each prompt; prompts are padded on the left, where the mask hides the padding."""
    width = max(map(len, prompts))
    rows = [[0] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    generate = cast("Any", model.generate)
    ids: Tensor = generate(
        input_ids=torch.tensor(rows, device=model.device),
        attention_mask=torch.tensor(mask, device=model.device),
        max_new_tokens=most,
    )
    generated: list[list[int]] = ids[:, width:].tolist()
    return generated


def _until_end(ids: Sequence[int], ends: Sequence[int]) -> list[int]:
    first = next((place for place, token in enumerate(ids) if token in ends), len(ids))
    return list(ids[:first])


@contextmanager
def _evaluating(model: PreTrainedModel, options: GenerationConfig) -> Iterator[None]:
    """Generate with these options alone: the base's own may sample, or penalise repetitions."""
    training, usual = model.training, model.generation_config
    model.train(False)
    model.generation_config = options
    try:
        yield
    finally:
        model.generation_config = usual
        model.train(training)
