"""What the measurements of one run share: bases, sizes, adapters, engines and models, created on first use."""

import functools
import gc
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedModel

from benchmarks.yardstick.sizes import Sizes
from harness.adapters.shelf import Shelf
from harness.random_prompt import random_prompt
from headmix_adapters.base import ResolvedBase, resolve_base, weight_files
from headmix_server.core.settings.settings import Settings
from headmix_server.engine.loop import Engine
from headmix_server.llm.session import build_engine

FLOAT32, BFLOAT16, INT8 = "float32", "bfloat16", "int8"
FORMS: Mapping[str, Mapping[str, str]] = {
    FLOAT32: {"dtype": "float32"},
    BFLOAT16: {"dtype": "bfloat16"},
    INT8: {"dtype": "float32", "quantize": "int8"},
}
"""How headmix stores and computes the base, as settings; adapters are exact in all of them."""
NAMES: Mapping[str, str] = {FLOAT32: "headmix", BFLOAT16: "headmix bfloat16", INT8: "headmix int8"}


class Stage:
    """The resources that one run shares. `say` prints a line of progress."""

    def __init__(
        self, generator: str, encoder: str, folder: Path, sizes: Sizes, say: Callable[[str], None] = print
    ) -> None:
        self.generator = resolve_base(generator)
        self.encoder = resolve_base(encoder)
        self.generator_name = generator
        self.encoder_name = encoder
        self.folder = folder
        self.sizes = sizes
        self.say = say
        self.shelf = Shelf(self.generator, folder / "generator")
        self.encoder_shelf = Shelf(self.encoder, folder / "encoder")
        self._engines: dict[str, Engine] = {}

    def engine(self, **settings: str | int) -> Engine:
        """Return the engine in this process that the server's worker would build; in float32 unless settings differ."""
        return self._engine(self.generator_name, self.generator, {**FORMS[FLOAT32], **settings})

    def engine_of(self, form: str) -> Engine:
        """Return the engine that stores and computes the base in a form."""
        return self.engine(**FORMS[form])

    def served(self, form: str) -> dict[str, str | int]:
        """Return the settings of a server that stores and computes the base in a form."""
        return {**self.sizes.settings, **FORMS[form]}

    def encoder_engine(self) -> Engine:
        """Return the same for the encoder base."""
        return self._engine(self.encoder_name, self.encoder, {})

    @functools.cached_property
    def checkpoint(self) -> Path:
        """The generator's folder with only the checkpoint: vLLM loads every safetensors file that it finds."""
        folder = self.folder / "checkpoint"
        folder.mkdir()
        weights = weight_files(self.generator.folder)
        for path in self.generator.folder.iterdir():
            if path.suffix != ".safetensors" or path in weights:
                (folder / path.name).symlink_to(path)
        return folder

    @functools.cached_property
    def model(self) -> PreTrainedModel:
        """The generator as transformers loads it, in float32."""
        return load_transformers(self.generator)

    @functools.cached_property
    def encoder_model(self) -> PreTrainedModel:
        """The encoder as transformers loads it, in float32."""
        model: PreTrainedModel = AutoModel.from_pretrained(self.encoder.folder, dtype=torch.float32)
        model.train(mode=False)
        return model

    def prompts(self, who: str, number: int, count: int | None = None, length: int | None = None) -> list[list[int]]:
        """Return a contender's random prompts of a round; no prompt repeats, so no cache from another turn helps."""
        count = self.sizes.requests if count is None else count
        length = self.sizes.prompt if length is None else length
        vocabulary = self.generator.shape.vocab_size
        seeds = [zlib.crc32(f"{who}, round {number}, {index}".encode()) for index in range(count)]
        return [random_prompt(length, vocabulary, seed) for seed in seeds]

    def release(self) -> None:
        """Close the engines and release the models; the next measurement creates what it needs."""
        for engine in self._engines.values():
            engine.close()
        self._engines.clear()
        for name in ("model", "encoder_model"):
            self.__dict__.pop(name, None)
        gc.collect()

    def _engine(self, name: str, base: ResolvedBase, settings: Mapping[str, str | int]) -> Engine:
        key = f"{name} {sorted(settings.items())}"
        if key not in self._engines:
            self._engines[key] = build_engine(
                base, Settings.model_validate({"base": name, **self.sizes.settings, **settings})
            )
        return self._engines[key]


def load_transformers(base: ResolvedBase) -> PreTrainedModel:
    """Load a base as transformers' causal language model, in float32."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
    model.train(mode=False)
    return model
