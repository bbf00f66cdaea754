"""Adapters for comparing servers: random ones with the authors' GPT-2 preset, with mixed ranks, and as PEFT LoRAs."""

from collections.abc import Sequence
from pathlib import Path

from harness.adapters.artifacts import random_artifact
from headmix_adapters.artifact import open_artifact
from headmix_adapters.base import ResolvedBase
from headmix_adapters.config import ClassifierConfig, SharedPart, SiteConfig, Sites
from headmix_adapters.convert.peft.export.export import export_peft_lora
from headmix_adapters.presets import Ranks, kernel_mix_sites, preset_ranks
from headmix_server.core.types import AdapterRef
from headmix_server.llm.session import adapter_ref

STRENGTH = 0.02
LORA_RANK = 16
MIXED_RANKS = (preset_ranks("gpt2-nlg"), preset_ranks("roberta-nlu"), preset_ranks("lite-qv"), Ranks(8, 16, 24, 16))
COPIED = 16
"""Adapters from this number on are copies of earlier ones with a few bits changed: other bytes, another digest."""


class Shelf:
    """Makes adapters for one base on first request; the same number always gives the same file."""

    def __init__(self, base: ResolvedBase, folder: Path) -> None:
        self._base = base
        self._folder = folder
        self._refs: dict[str, AdapterRef] = {}
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def vocabulary(self) -> int:
        """The number of tokens in the base's vocabulary."""
        return self._base.shape.vocab_size

    def preset(self, count: int, first: int = 0) -> list[AdapterRef]:
        """Return `count` distinct adapters of the preset (3, 8, 12, 8), starting at number `first`."""
        return [self._preset(number) for number in range(first, first + count)]

    def mixed(self, count: int) -> list[AdapterRef]:
        """Return distinct adapters, each with different ranks from the previous one."""
        return [
            self._random(f"mixed-{number}", kernel_mix_sites(MIXED_RANKS[number % len(MIXED_RANKS)]), number)
            for number in range(count)
        ]

    def loras(self, count: int) -> list[AdapterRef]:
        """Return distinct LoRAs of rank 16 on the four projections of attention."""
        site = SiteConfig(shared=SharedPart(rank=LORA_RANK))
        sites = Sites(q=site, k=site, v=site, o=site)
        return [self._random(f"plain-{number}", sites, number) for number in range(count)]

    def classifiers(self, count: int) -> list[AdapterRef]:
        """Return distinct classifiers; each has a different number of labels than the one before it."""
        return [self._classifier(number) for number in range(count)]

    def as_lora(self, ref: AdapterRef) -> Path:
        """Return the folder of the PEFT LoRA that equals an adapter exactly."""
        folder = self._folder / f"{ref.name}-lora"
        if not folder.exists():
            export_peft_lora(Path(ref.path), folder, self._base)
        return folder

    def weights_of(self, ref: AdapterRef) -> int:
        """Return the number of parameters an adapter has."""
        return open_artifact(Path(ref.path)).num_parameters

    def copy_preset(self, count: int, folder: Path) -> list[str]:
        """Copy `count` adapters of the preset to a folder for a server to preload; return their names."""
        return self.copy(self.preset(count), folder)

    def copy(self, refs: Sequence[AdapterRef], folder: Path) -> list[str]:
        """Copy adapters to a folder for a server to preload; return their names."""
        folder.mkdir(parents=True, exist_ok=True)
        for ref in refs:
            (folder / Path(ref.path).name).write_bytes(Path(ref.path).read_bytes())
        return [ref.name for ref in refs]

    def _preset(self, number: int) -> AdapterRef:
        name = f"adapter-{number}"
        if number < COPIED:
            return self._random(name, kernel_mix_sites(preset_ranks("gpt2-nlg")), number)
        return self._copy(name, self._preset(number % COPIED), number)

    def _classifier(self, number: int) -> AdapterRef:
        name = f"classifier-{number}"
        if number >= COPIED:
            return self._copy(name, self._classifier(number % COPIED), number)
        labels = tuple(f"label-{label}" for label in range(2 + number % 4))
        head = ClassifierConfig(pooling="mean", kind="linear", labels=labels)
        return self._random(name, kernel_mix_sites(preset_ranks("roberta-nlu")), number, head)

    def _copy(self, name: str, original: AdapterRef, number: int) -> AdapterRef:
        if name not in self._refs:
            path = self._folder / f"{name}.safetensors"
            path.write_bytes(_variant(Path(original.path).read_bytes(), number))
            self._refs[name] = adapter_ref(path)
        return self._refs[name]

    def _random(self, name: str, sites: Sites, seed: int, head: ClassifierConfig | None = None) -> AdapterRef:
        if name not in self._refs:
            path = self._folder / f"{name}.safetensors"
            random_artifact(path, self._base.shape, sites, seed=seed, classifier=head, scale=STRENGTH)
            self._refs[name] = adapter_ref(path)
        return self._refs[name]


def _variant(file: bytes, number: int) -> bytes:
    """Return the file with a number encoded in the last mantissa bits of its last four bfloat16 values."""
    changed = bytearray(file)
    for digit in range(4):
        place = len(changed) - 2 * (digit + 1)  # the low byte: its top bit is the exponent's lowest
        changed[place] = (changed[place] & 0x80) | (number >> 7 * digit & 0x7F)
    return bytes(changed)
