"""The files an attacker uploads: adapters that are valid, add words or overflow; a LoRA; files that aren't adapters."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from harness.adapters.artifacts import random_artifact, random_tensors, tiny_base_shape
from harness.adapters.malformed import malformed_artifacts
from headmix_adapters.artifact.write import write_artifact
from headmix_adapters.config import AdapterConfig, BaseShape
from headmix_adapters.presets import kernel_mix_sites, preset_ranks

HUGE = 1.7e38
"""Finite, but so large that its products overflow."""
LORA_RANK = 8
ADDED_WORDS = 200


def write_payloads(folder: Path, base: BaseShape) -> None:
    """Write everything in `AttackResources.folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    sites = kernel_mix_sites(preset_ranks("gpt2-nlg"))
    random_artifact(folder / "plain.safetensors", base, sites, seed=1, scale=0.02)
    words = tuple(f"<word-{place}>" for place in range(ADDED_WORDS))
    random_artifact(folder / "words.safetensors", base, sites, seed=2, scale=0.02, added_tokens=words)
    config = AdapterConfig(method="kernel-mix", task="generation", base=base, sites=sites)
    huge = {name: torch.full_like(tensor, HUGE) for name, tensor in random_tensors(config).items()}
    write_artifact(folder / "overflow.safetensors", config, huge, torch.bfloat16)
    _write_lora(folder, base)
    for number, content in enumerate([b"", b"garbage" * 100, *malformed_artifacts(tiny_base_shape()).values()]):
        (folder / f"garbage-{number}").write_bytes(content)


def _write_lora(folder: Path, base: BaseShape) -> None:
    module = "base_model.model.model.layers.0.self_attn.q_proj"
    width = base.num_heads * base.head_dim
    weights = {"A": torch.ones(LORA_RANK, base.hidden_size), "B": torch.ones(width, LORA_RANK)}
    tensors = {f"{module}.lora_{part}.weight": tensor for part, tensor in weights.items()}
    save_file(tensors, folder / "lora.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": LORA_RANK,
        "lora_alpha": 8,
        "target_modules": ["q_proj"],
    }
    (folder / "lora.json").write_text(json.dumps(config), encoding="utf-8")
