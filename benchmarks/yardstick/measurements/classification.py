"""Texts per second through classification heads, on an encoder base and on a generation base."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from benchmarks.yardstick.contenders.contender import Contender, Measured, interleave
from benchmarks.yardstick.contenders.in_process import classify, run_all
from benchmarks.yardstick.contenders.timing import seconds_of
from benchmarks.yardstick.floors import Ceilings
from benchmarks.yardstick.stage import Stage
from harness.adapters.shelf import Shelf
from headmix_adapters.inject.backbone import backbone_of
from headmix_server.core.messages import Classify
from headmix_server.core.types import AdapterRef
from headmix_server.engine.loop import Engine

NAME = "classification"
HF_BATCH = 32
SHORTEST = 4


@dataclass(frozen=True, slots=True)
class Ours:
    """headmix's engine on a base; text i goes to classifier i modulo their number."""

    name: str
    stage: Stage
    engine: Engine
    adapters: list[AdapterRef]
    vocabulary: int
    rival: bool = False

    def run(self, number: int) -> list[float]:
        """Return texts per second."""
        texts = random_texts(self.stage, self.vocabulary, number)
        return [len(texts) / run_all(self.engine, classify_each(texts, self.adapters))]


@dataclass(frozen=True, slots=True)
class Transformers:
    """The same base in transformers without any adapter: texts sorted by length, padded in batches, one linear head."""

    name: str
    stage: Stage
    model: nn.Module
    vocabulary: int
    rival: bool = True

    def run(self, number: int) -> list[float]:
        """Return texts per second."""
        texts = random_texts(self.stage, self.vocabulary, number)
        return [len(texts) / seconds_of(lambda: self._classify(texts))]

    @torch.inference_mode()
    def _classify(self, texts: Sequence[list[int]]) -> None:
        ordered = sorted(texts, key=len)
        for start in range(0, len(ordered), HF_BATCH):
            batch = ordered[start : start + HF_BATCH]
            width = len(batch[-1])
            inputs = torch.tensor([text + [0] * (width - len(text)) for text in batch])
            mask = torch.tensor([[1] * len(text) + [0] * (width - len(text)) for text in batch])
            states = self.model(input_ids=inputs, attention_mask=mask).last_hidden_state  # [texts, width, hidden]
            pooled = (states * mask[:, :, None]).sum(1) / mask.sum(1)[:, None]
            pooled.mm(torch.zeros(pooled.shape[1], 4)).softmax(-1).tolist()


def measure(stage: Stage, _: Ceilings) -> Measured:
    """Run headmix with one and with many classifiers, next to transformers without any, on both bases, in turn."""
    few = stage.sizes.few_rounds
    contenders = [
        *_contenders(stage, "encoder", stage.encoder_model, stage.encoder_engine(), stage.encoder_shelf),
        *_contenders(stage, "generator", backbone_of(stage.model), stage.engine(), stage.shelf),
    ]
    series = interleave(contenders, few, stage.say)
    what = f"texts a second, {stage.sizes.texts} texts of {SHORTEST} to {stage.sizes.longest_text} tokens"
    return Measured(name=NAME, what=what, unit="texts/s", series=series)


def _contenders(stage: Stage, kind: str, model: nn.Module, engine: Engine, shelf: Shelf) -> list[Contender]:
    vocabulary = shelf.vocabulary
    return [
        Transformers(f"{kind}: transformers, no adapter", stage, model, vocabulary),
        *(
            Ours(f"{kind}: headmix, {count} classifiers", stage, engine, shelf.classifiers(count), vocabulary)
            for count in (1, stage.sizes.many)
        ),
    ]


def classify_each(texts: Sequence[list[int]], adapters: Sequence[AdapterRef]) -> list[Classify]:
    """Return one request per text; text i goes to classifier i modulo their number."""
    return [classify(text, adapters[index % len(adapters)]) for index, text in enumerate(texts)]


def random_texts(stage: Stage, vocabulary: int, number: int, count: int | None = None) -> list[list[int]]:
    """Return a round's texts: token ids, with uniformly distributed lengths."""
    chance = random.Random(number)
    wanted = stage.sizes.texts if count is None else count
    lengths = [chance.randint(SHORTEST, stage.sizes.longest_text) for _ in range(wanted)]
    return [[chance.randrange(20, vocabulary) for _ in range(length)] for length in lengths]
