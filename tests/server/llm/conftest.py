import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.adapters.artifacts import classifier_config, random_artifact
from harness.adapters.mixed_sites import MIXED_SITES
from harness.bases.tiny_model import make_tiny_llama
from headmix_adapters.base import resolve_base
from headmix_server import LLM

SMALL: dict[str, Any] = {"kv_cache_mib": 1, "adapter_slots": 8, "device": "cpu"}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base in `base`, and adapters on it: a, b, c generate, `mood` classifies, `topics` gives several labels."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("llm")
    make_tiny_llama(folder / "base")
    base = resolve_base(str(folder / "base")).shape
    for number, name in enumerate("abc"):
        random_artifact(folder / f"{name}.safetensors", base, MIXED_SITES[number], seed=number, scale=0.3)
    heads = {"mood": classifier_config("sad", "happy", "calm")}
    heads["topics"] = classifier_config("x", "y", "z", "w", problem="multi_label")
    for name, head in heads.items():
        random_artifact(folder / f"{name}.safetensors", base, MIXED_SITES[3], classifier=head, scale=0.3)
    return folder


@pytest.fixture
def llm(folder: Path) -> Iterator[LLM]:
    adapters = {path.stem: path for path in sorted(folder.glob("*.safetensors"))}
    with LLM(os.fspath(folder / "base"), adapters=adapters, **SMALL) as llm:
        yield llm
