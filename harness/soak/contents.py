"""The artifacts a walk uploads, each determined by its number.

They differ in sites, ranks, layers, precision, task and added tokens. The files are kept outside every store, so the
oracle can read them whatever was deleted there.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from harness.adapters.artifacts import random_artifact
from harness.adapters.mixed_sites import MIXED_SITES
from headmix_adapters.config import BaseShape, ClassifierConfig, SharedPart, SiteConfig, Sites
from headmix_adapters.presets import Ranks, kernel_mix_sites

STRENGTH = 0.3
"""The scale of the random values: large enough that every adapter changes the output."""

_SITES = (
    *MIXED_SITES,
    kernel_mix_sites(Ranks(q=2, v=3, q_shared=4, v_shared=1)),
    Sites(q=SiteConfig(shared=SharedPart(rank=4)), gate_up=SiteConfig(shared=SharedPart(rank=2, scale=0.7))),
)
_HEADS = (
    ClassifierConfig(pooling="last", kind="linear", labels=("a", "b")),
    ClassifierConfig(pooling="mean", kind="mlp-tanh", labels=("a", "b", "c"), problem="multi_label"),
    ClassifierConfig(pooling="cls", kind="linear", labels=("score",), problem="regression"),
)
WORDS = ("<one>", "<two>")


@dataclass(frozen=True, slots=True)
class Content:
    """One artifact. `num_added` are the tokens it adds to the vocabulary."""

    number: int
    path: Path
    digest: str
    classifies: bool
    num_added: int


class Contents:
    """Artifacts by number, all for one `base`, written to the folder on first request."""

    def __init__(self, folder: Path, base: BaseShape) -> None:
        self._folder = folder
        self.base = base
        self._made: dict[int, Content] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, number: int) -> Content:
        """Return the artifact with a number; the same number always gives the same bytes."""
        if number not in self._made:
            self._made[number] = self._make(number)
        return self._made[number]

    def _make(self, number: int) -> Content:
        head = _HEADS[number // 4 % len(_HEADS)] if number % 4 == 3 else None
        words = WORDS if number % 5 == 2 else ()
        path = self._folder / f"{number}.safetensors"
        digest = random_artifact(
            path,
            self.base,
            _SITES[number % len(_SITES)],
            seed=number,
            layers=(0, self.base.num_layers - 1) if number % 3 == 1 else None,
            classifier=head,
            dtype=torch.float32 if number % 2 else torch.bfloat16,
            scale=STRENGTH,
            added_tokens=words,
            method="lora" if _SITES[number % len(_SITES)].adapts_mlp() else "kernel-mix",
        )
        return Content(number, path, digest, head is not None, len(words))
