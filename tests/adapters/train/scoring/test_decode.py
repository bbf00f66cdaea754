"""Answers are those the model gives to each prompt alone, whatever batch it is in."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import torch

from harness.bases.families import FAMILIES
from headmix_adapters.base import resolve_base
from headmix_adapters.text.base_text import read_base_text
from headmix_adapters.train.data.examples import IGNORED, Example
from headmix_adapters.train.prepare import Material, load_model
from headmix_adapters.train.scoring import score
from headmix_adapters.train.scoring.decode import decode_answers


def greedy(material: Material, prompt: list[int], count: int) -> list[int]:
    ids = list(prompt)
    for _ in range(count):
        with torch.no_grad():
            ids.append(int(material.model(torch.tensor([ids], device=material.model.device)).logits[0, -1].argmax()))
        if ids[-1] in material.text.tokenizer.eos_ids:
            return ids[len(prompt) : -1]
    return ids[len(prompt) :]


def test_each_prompt_has_its_greedy_answer(material: Callable[..., Material]) -> None:
    loaded = material("generation")
    decoded = decode_answers(loaded.model, loaded.text, loaded.eval.examples, batch_size=5)
    assert set(decoded.expected) == {"a lazy dog"}
    longest = 2 * max(sum(label != IGNORED for label in one.labels) for one in loaded.eval.examples)  # type: ignore[union-attr]
    for example, answer in zip(loaded.eval.examples, decoded.answers, strict=True):
        assert isinstance(example.labels, list)
        prompt = example.input_ids[: example.labels.count(IGNORED)]
        assert answer == loaded.text.tokenizer.decode(greedy(loaded, prompt, longest))


def test_answers_end_where_the_bases_positions_do(tmp_path: Path) -> None:
    FAMILIES["gpt2"].make(tmp_path)
    model, text = load_model(resolve_base(str(tmp_path)), torch.float32), read_base_text(tmp_path)
    positions = model.config.n_positions
    examples = [
        Example([5] * (length + 20), [IGNORED] * length + [5] * 20)
        for length in (3, 100, positions - 20, positions - 4)
    ]
    cut = [Example(one.input_ids[:positions], cast("list[int]", one.labels)[:positions]) for one in examples]
    decoded = decode_answers(model, text, cut, batch_size=4)
    assert len(decoded.answers) == 4
    alone = [decode_answers(model, text, [*cut[:1], one], batch_size=1).answers[1] for one in cut]
    assert decoded.answers == alone


def test_a_bases_own_wishes_for_generation_are_not_obeyed_and_not_lost(material: Callable[..., Material]) -> None:
    loaded = material("generation")
    plain = decode_answers(loaded.model, loaded.text, loaded.eval.examples[:3], batch_size=2)
    wishes = loaded.model.generation_config
    assert wishes is not None
    wishes.do_sample, wishes.temperature, wishes.repetition_penalty = True, 2.0, 3.0
    assert decode_answers(loaded.model, loaded.text, loaded.eval.examples[:3], batch_size=2) == plain
    assert loaded.model.generation_config is wishes
    assert not loaded.model.training


def test_adapter_and_base_have_the_scores_a_recipe_asks_for(
    material: Callable[..., Material], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    import msgspec

    loaded = material("generation")
    recipe = msgspec.structs.replace(loaded.recipe, metrics=("exact_match", "rouge_l", "bleu"))
    asked = replace(loaded, recipe=recipe)
    base = score.score_base(asked)
    assert base is not None
    assert {"exact_match", "rouge_l", "bleu", "decoded_answers"} < base.scores.keys()
    assert base.scores["decoded_answers"] == len(loaded.eval.examples)
    monkeypatch.setattr(score, "decode_answers", lambda *_: pytest.fail("decoded without being asked to"))
    assert score.score_base(loaded) is not None
