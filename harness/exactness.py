"""Exactness: requests of many adapters sent together get the same answers as alone, and as from transformers.

`compare` runs every request three ways: together with all others, with staggered arrivals; alone on the same engine;
and through `inject` on the transformers model. Greedy tokens must be identical; a difference is forgiven only if the
top two scores are within `TIE`, and is counted. Probabilities and embeddings must agree within `TOLERANCE`.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch.nn.functional import normalize
from transformers import AutoModelForCausalLM, PreTrainedModel

from harness.adapters.artifacts import random_artifact
from harness.adapters.mixed_sites import MIXED_SITES
from harness.random_prompt import random_prompt
from headmix_adapters.artifact import open_artifact
from headmix_adapters.base import resolve_base
from headmix_adapters.config import BaseShape, ClassifierConfig
from headmix_adapters.inject import ClassifierModel, load_adapter
from headmix_adapters.inject.backbone import backbone_of
from headmix_adapters.inject.classifier_head import ClassifierHead
from headmix_adapters.reference import label_probabilities, pool
from headmix_server.core.messages import Classify, Embed, Generate, Request
from headmix_server.core.settings.settings import Settings
from headmix_server.core.types import EmbeddingParams, SamplingParams
from headmix_server.engine.loop import Engine
from headmix_server.llm.session import Answer, EngineSession, adapter_ref, build_engine

TIE = 1e-4
TOLERANCE = 1e-4
ARRIVALS_PER_STEP = 3


@dataclass(frozen=True, slots=True)
class Case:
    """One request: greedy generation, or with `max_tokens` 0 a classification, or an embedding by the base alone.

    `second` is where the second text of a pair to classify begins; 0 if there is none.
    """

    name: str
    prompt: list[int]
    adapter: Path | None
    max_tokens: int
    second: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The comparison's findings."""

    requests: int
    identical: int
    forgiven: int
    wrong: tuple[str, ...]
    largest_error: float


def message(case: Case, request_id: str) -> Request:
    """Return the engine's message for a case; generations report the gap between the top two tokens."""
    ref = None if case.adapter is None else adapter_ref(case.adapter)
    if case.max_tokens == 0:
        if ref is None:
            params = EmbeddingParams(pooling="mean", normalize=True)
            return Embed(request_id=request_id, tenant="default", prompt=case.prompt, adapter=None, params=params)
        return Classify(request_id=request_id, tenant="default", prompt=case.prompt, adapter=ref, second=case.second)
    sampling = SamplingParams(max_tokens=case.max_tokens, temperature=0, logprobs=2, ignore_eos=True)
    return Generate(request_id=request_id, tenant="default", prompt=case.prompt, adapter=ref, sampling=sampling)


def answer_together(engine: Engine, cases: Sequence[Case]) -> list[Answer]:
    """Send all cases, a few at a time, each group one step after the previous."""
    session = EngineSession(engine)
    for start in range(0, len(cases), ARRIVALS_PER_STEP):
        for index in range(start, min(start + ARRIVALS_PER_STEP, len(cases))):
            session.submit(message(cases[index], f"together-{index}"))
        session.step()
    session.drain()
    return [session.answers[f"together-{index}"] for index in range(len(cases))]


def answer_alone(engine: Engine, case: Case) -> Answer:
    """Run a case with nothing else in the engine."""
    session = EngineSession(engine)
    session.submit(message(case, "alone"))
    session.drain()
    return session.answers["alone"]


@torch.inference_mode()
def answer_by_transformers(model: PreTrainedModel, case: Case) -> Answer:
    """Run a case through `inject` on the transformers model."""
    adapted = None if case.adapter is None else load_adapter(model, case.adapter)
    try:
        inputs = torch.tensor([case.prompt])
        if isinstance(adapted, ClassifierModel):
            classifier = adapted.adapter.config.classifier
            if classifier is None:
                raise ValueError(f"{case.name}: no classification head")
            logits = _class_logits(model, adapted, inputs, case.second)
            return Answer(probs=label_probabilities(classifier, logits).tolist())
        if case.max_tokens == 0:
            states = backbone_of(model)(input_ids=inputs).last_hidden_state[0]
            return Answer(vector=normalize(pool(states, "mean"), dim=-1).tolist())
        return Answer(tokens=_greedy(model, inputs, case.max_tokens))
    finally:
        if adapted is not None:
            adapted.adapter.detach()


def _class_logits(model: PreTrainedModel, adapted: ClassifierModel, inputs: torch.Tensor, second: int) -> torch.Tensor:
    mask = torch.ones_like(inputs)
    if not second:
        logits: torch.Tensor = adapted(input_ids=inputs, attention_mask=mask).logits[0]
        return logits
    types = (torch.arange(inputs.shape[1])[None] >= second).long()
    states = backbone_of(model)(input_ids=inputs, attention_mask=mask, token_type_ids=types).last_hidden_state
    typed: torch.Tensor = cast("ClassifierHead", adapted.head)(states, mask, inputs)[0]
    return typed


def _greedy(model: PreTrainedModel, inputs: torch.Tensor, max_tokens: int) -> list[int]:
    tokens: list[int] = []
    cache = None
    for _ in range(max_tokens):
        output = model(input_ids=inputs, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        tokens.append(int(output.logits[0, -1].argmax()))
        inputs = torch.tensor([[tokens[-1]]])
    return tokens


def compare(engine: Engine, model: PreTrainedModel, cases: Sequence[Case]) -> Verdict:
    """Run every case three ways and compare the answers."""
    identical = forgiven = 0
    wrong: list[str] = []
    largest = 0.0
    for case, together in zip(cases, answer_together(engine, cases), strict=True):
        others = {"alone": answer_alone(engine, case), "transformers": answer_by_transformers(model, case)}
        verdicts = set()
        for kind, other in others.items():
            numbers = (together.probs or together.vector, other.probs or other.vector)
            if all(numbers):
                error = max(abs(a - b) for a, b in zip(*numbers, strict=True))
                largest = max(largest, error)
                verdicts.add("identical" if error <= TOLERANCE else f"{case.name}: {error:.1e} off {kind}")
            else:
                verdicts.add(_judge_tokens(case.name, together, other, kind))
        faults = verdicts - {"identical", "forgiven"}
        wrong.extend(sorted(faults))
        if not faults:
            forgiven += "forgiven" in verdicts
            identical += "forgiven" not in verdicts
    return Verdict(len(cases), identical, forgiven, tuple(wrong), largest)


def _judge_tokens(name: str, together: Answer, other: Answer, kind: str) -> str:
    if together.failure or other.failure:
        return f"{name}: failed together ({together.failure}) or {kind} ({other.failure})"
    if not together.tokens:
        return f"{name}: no tokens"
    if together.tokens == other.tokens:
        return "identical"
    at = next(i for i, (a, b) in enumerate(zip(together.tokens, other.tokens, strict=True)) if a != b)
    return "forgiven" if together.gaps[at] <= TIE else f"{name}: token {at} differs from {kind}"


def make_cases(
    base: BaseShape, folder: Path, examples: Sequence[tuple[Path, bool]], *, random_adapters: int, count: int
) -> list[Case]:
    """Return `count` requests over the base, the examples (path, whether it classifies) and new random adapters.

    The random adapters have mixed sites, ranks and layers; every other one classifies.
    """
    adapters: list[tuple[Path | None, bool]] = [(None, False), *examples]
    strength = 2 * base.hidden_size**-0.5  # strong enough to change the answer, at any width
    for seed in range(random_adapters):
        labels = tuple(f"label-{n}" for n in range(2 + seed))
        head = ClassifierConfig(pooling=("last", "mean", "cls")[seed // 2 % 3], kind="linear", labels=labels)
        path = folder / f"random-{seed}.safetensors"
        layers = None if seed % 3 else range(seed % 2, base.num_layers, 2)
        sites = MIXED_SITES[seed % len(MIXED_SITES)]
        random_artifact(
            path, base, sites, seed=seed, layers=layers, classifier=head if seed % 2 else None, scale=strength
        )
        adapters.append((path, bool(seed % 2)))
    cases = []
    for index in range(count):
        chosen, classifies = adapters[index % len(adapters)]
        prompt = random_prompt(3 + 7 * index % 50, base.vocab_size, index)
        name = f"{index} {'base' if chosen is None else chosen.stem}"
        cases.append(Case(name, prompt, chosen, 0 if classifies else 8 + index % 17))
    return cases


def main() -> int:
    """Compare on a real base with the example adapters; prints one JSON line, exits 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description="Compare a mixed batch with each request alone and with transformers.")
    parser.add_argument("--base", default="smollm2-135m-instruct")
    parser.add_argument("--examples", type=Path, default=Path("examples/adapters"))
    parser.add_argument("--requests", type=int, default=24)
    parser.add_argument("--weights", choices=("auto", "stored", "float32"), default="auto")
    arguments = parser.parse_args()
    base = resolve_base(arguments.base)
    examples = [(path, _classifies(path)) for path in sorted(arguments.examples.glob("*.safetensors"))]
    engine = build_engine(base, Settings(base=arguments.base, max_batch_tokens=128, weights=arguments.weights))
    model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        cases = make_cases(base.shape, Path(folder), examples, random_adapters=8, count=arguments.requests)
        verdict = compare(engine, model, cases)
    engine.close()
    report = {"exactness": {name: getattr(verdict, name) for name in Verdict.__slots__}}
    print(json.dumps(report))
    return 1 if verdict.wrong else 0


def _classifies(path: Path) -> bool:
    return open_artifact(path).config.classifier is not None


if __name__ == "__main__":
    sys.exit(main())
