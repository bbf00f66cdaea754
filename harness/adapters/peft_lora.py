"""LoRAs that PEFT itself created and saved, with random values, on transformers models loaded from a base's folder."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

from headmix_adapters.base import ResolvedBase

RENAMED = "ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"
"""PEFT calls transformers by a name that transformers has deprecated; tests that make a LoRA filter the warning."""


def load_model(base: ResolvedBase, task_type: str | None, num_labels: int = 3) -> PreTrainedModel:
    """Return the transformers model for a task on a base, in evaluation mode; a new head is the same each time."""
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


def random_peft_lora(
    folder: Path, base: ResolvedBase, *, task_type: str | None = "CAUSAL_LM", seed: int = 3, **config: Any
) -> PeftModel:
    """Make a LoRA with PEFT, fill it with random values, save it to a folder, and return the model it is part of."""
    # GPT-2's projections store their weights transposed; PEFT warns unless told so.
    config.setdefault("fan_in_fan_out", base.shape.model_type == "gpt2")
    model = get_peft_model(load_model(base, task_type), LoraConfig(task_type=task_type, **config))
    assert isinstance(model, PeftModel)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    model.train(mode=False)
    model.save_pretrained(str(folder))
    return model
