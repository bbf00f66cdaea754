"""Tiny random bases, each made once, and LoRAs for them made by PEFT itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from harness.adapters.peft_lora import random_peft_lora
from harness.bases.families import FAMILIES
from headmix_adapters.base import ResolvedBase, resolve_base

MakeBase = Callable[[str], ResolvedBase]
MakePeft = Callable[..., tuple[Path, PeftModel]]


@pytest.fixture(scope="session")
def make_base(tmp_path_factory: pytest.TempPathFactory) -> MakeBase:
    """Return a tiny base of a model type, made once."""
    made: dict[str, ResolvedBase] = {}

    def make(model_type: str) -> ResolvedBase:
        if model_type not in made:
            folder = tmp_path_factory.mktemp("bases") / model_type
            FAMILIES[model_type].make(folder)
            made[model_type] = resolve_base(str(folder))
        return made[model_type]

    return make


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(5, 490, (2, 9), generator=torch.Generator().manual_seed(5))


@pytest.fixture
def make_peft(tmp_path: Path) -> MakePeft:
    """Return the folder and the model of a random LoRA made by PEFT."""

    def make(base: ResolvedBase, **config: Any) -> tuple[Path, PeftModel]:
        return tmp_path / "peft", random_peft_lora(tmp_path / "peft", base, **config)

    return make
