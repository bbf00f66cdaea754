"""Measures what a recipe's own score leaves out, on the held-out files: one line of JSON per example.

For classifiers, a linear classifier on the frozen base's last hidden state: the baseline the adapter must beat to be
more than its head. For generators, properties of their greedy answers, with and without the adapter.

    python -m examples.score spam category kingjames dictionary tools
"""

import argparse
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from examples.data.prepare_kingjames import is_archaic
from examples.data.tool_kinds import NEW
from headmix_adapters.inject import LanguageModel, load_adapter
from headmix_adapters.train.data.examples import IGNORED, Example
from headmix_adapters.train.prepare import Material, load_material
from headmix_adapters.train.recipe.recipe import load_recipe
from headmix_adapters.train.scoring.linear_probe import evaluate_linear_probe

FOLDER = Path(__file__).parent
BATCH = 20
LONGEST_ANSWER = {"kingjames": 64, "dictionary": 64, "tools": 160}  # tokens
_CALL = re.compile(r"<tool_call>\n(.*?)\n</tool_call>", re.DOTALL)
Scores = dict[str, float]


@dataclass(frozen=True)
class Answered:
    """A held-out question's true answer and the generated one."""

    expected: str
    generated: str


def score(name: str) -> dict[str, object]:
    """Return the measures for one example; its artifact is in `adapters/`."""
    material = load_material(load_recipe(FOLDER / f"{name}.toml"), FOLDER)
    if material.recipe.task == "classification":
        probe = evaluate_linear_probe(material)
        return {"example": name, "linear classifier on the frozen base": None if probe is None else probe.scores}
    measure = {"kingjames": archaic_share, "dictionary": record_shares, "tools": call_shares}[name]
    base = measure(answers(material, LONGEST_ANSWER[name]))
    adapter = cast("LanguageModel", load_adapter(material.model, FOLDER / "adapters" / f"{name}.safetensors"))
    adapted = measure(answers(material, LONGEST_ANSWER[name]))
    adapter.adapter.detach()
    return {"example": name, "base": base, "adapter": adapted}


def archaic_share(answered: Sequence[Answered]) -> Scores:
    """Return the share of answers with a word found only in the older English."""
    return {"archaic": _share([is_archaic(answer.generated) for answer in answered])}


def record_shares(answered: Sequence[Answered]) -> Scores:
    """Return the shares of answers that are a JSON object with the four keys, and that name the right kind."""
    pairs = [(json.loads(answer.expected), _record(answer.generated)) for answer in answered]
    return {
        "valid records": _share([record.keys() == expected.keys() for expected, record in pairs]),
        "right kinds": _share([record.get("kind") == expected["kind"] for expected, record in pairs]),
    }


def call_shares(answered: Sequence[Answered]) -> Scores:
    """Return the shares of requests whose calls are exactly right, and of calls that are valid JSON."""
    pairs = [(_calls(answer.expected), _calls(answer.generated)) for answer in answered]
    new = {name for kind in NEW for name in kind.names}
    groups: dict[str, list[bool]] = {}
    for expected, generated in pairs:
        named = {str(call.get("name")) for call in expected}
        group = "no call" if not expected else "of a new function" if named & new else f"{len(expected)} of known ones"
        groups.setdefault(group, []).append(expected == generated)
    called = [call for _, generated in pairs for call in generated]
    calling = [expected == generated for expected, generated in pairs if expected]
    return {
        "right calls": _share(calling),
        "valid JSON": _share([call.keys() == {"name", "arguments"} for call in called]),
        **{group: _share(hits) for group, hits in groups.items()},
    }


def _calls(text: str) -> list[dict[str, object]]:
    return [_record(found) for found in _CALL.findall(text)]


@torch.no_grad()
def answers(material: Material, longest: int) -> list[Answered]:
    """Return the greedy answers of the model as it is."""
    result: list[Answered] = []
    for batch in _batches(material.eval.examples):
        prompts = [_prompt(example) for example in batch]
        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        generate = cast("Callable[..., Tensor]", material.model.generate)
        produced = generate(ids, attention_mask=mask, max_new_tokens=longest, do_sample=False)
        for example, row in zip(batch, produced[:, width:], strict=True):
            expected = example.input_ids[len(_prompt(example)) :]
            result.append(Answered(_text(material, expected), _text(material, row.tolist())))
    return result


def _prompt(example: Example) -> list[int]:
    labels = cast("list[int]", example.labels)
    return [token for token, label in zip(example.input_ids, labels, strict=True) if label == IGNORED]


def _text(material: Material, ids: list[int]) -> str:
    return material.text.tokenizer.decode(ids)


def _record(text: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _share(hits: Sequence[bool]) -> float:
    return sum(hits) / len(hits) if hits else 0.0


def _batches(examples: Sequence[Example]) -> Iterator[Sequence[Example]]:
    for start in range(0, len(examples), BATCH):
        yield examples[start : start + BATCH]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure the trained examples on their held-out files.")
    parser.add_argument("names", nargs="+", choices=sorted(path.stem for path in FOLDER.glob("*.toml")))
    for chosen in parser.parse_args().names:
        print(json.dumps(score(chosen)), flush=True)
