"""Tiny random bases of three families, and LoRAs that PEFT itself made and saved beside them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

from headmix_adapters.base import ResolvedBase, resolve_base
from tests.support.families import FAMILIES

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


def load_model(base: ResolvedBase, task_type: str | None, num_labels: int = 3) -> PreTrainedModel:
    """The transformers model of a task on a base, in evaluation mode; a new head is the same each time."""
    torch.manual_seed(11)
    if task_type == "SEQ_CLS":
        model = AutoModelForSequenceClassification.from_pretrained(base.folder, num_labels=num_labels)
    elif task_type == "CAUSAL_LM":
        model = AutoModelForCausalLM.from_pretrained(base.folder)
    else:
        model = AutoModel.from_pretrained(base.folder)
    assert isinstance(model, PreTrainedModel)
    model.train(mode=False)
    return model


@pytest.fixture
def make_peft(tmp_path: Path) -> MakePeft:
    """Make a LoRA by PEFT, fill it with random values, save it, and return its folder and the model it sits in."""

    def make(base: ResolvedBase, *, task_type: str | None = "CAUSAL_LM", **config: Any) -> tuple[Path, PeftModel]:
        # GPT-2's projections keep their weight transposed; PEFT warns where it is not told.
        config.setdefault("fan_in_fan_out", base.shape.model_type == "gpt2")
        model = get_peft_model(load_model(base, task_type), LoraConfig(task_type=task_type, **config))
        assert isinstance(model, PeftModel)
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_" in name or "modules_to_save" in name:
                    parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
        model.train(mode=False)
        model.save_pretrained(str(tmp_path / "peft"))
        return tmp_path / "peft", model

    return make
