"""The dimensions and constants of a base, read from its checkpoint's config.json.

A config is either fully understood or refused with the reason: an option the code does not implement must never be
run as if it were absent.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class UnsupportedModelError(Exception):
    """The checkpoint asks for something this code does not do."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A decoder of the Llama family."""

    model_type: str
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    max_positions: int
    rms_norm_eps: float
    rope_theta: float
    tied_head: bool
    eos_ids: frozenset[int]


def load_raw_config(folder: Path) -> dict[str, Any]:
    """Return config.json as it is.

    Raises:
        UnsupportedModelError: there is none, or it is not a JSON object.
    """
    try:
        raw = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise UnsupportedModelError(f"{folder / 'config.json'} cannot be read: {error}") from error
    if not isinstance(raw, dict):
        raise UnsupportedModelError(f"{folder / 'config.json'} is not a JSON object")
    return raw


def parse_llama_config(raw: Mapping[str, Any], folder: Path) -> ModelConfig:
    """Read the config of a Llama-family checkpoint.

    Raises:
        UnsupportedModelError: a field is missing, or names something that is not implemented.
    """
    _refuse_unsupported(raw)
    try:
        heads = int(raw["num_attention_heads"])
        hidden = int(raw["hidden_size"])
        return ModelConfig(
            model_type=str(raw["model_type"]),
            hidden_size=hidden,
            intermediate_size=int(raw["intermediate_size"]),
            num_layers=int(raw["num_hidden_layers"]),
            num_heads=heads,
            num_kv_heads=int(raw.get("num_key_value_heads") or heads),
            head_dim=int(raw.get("head_dim") or hidden // heads),
            vocab_size=int(raw["vocab_size"]),
            max_positions=int(raw.get("max_position_embeddings", 2048)),
            rms_norm_eps=float(raw.get("rms_norm_eps", 1e-6)),
            rope_theta=_rope_theta(raw),
            tied_head=bool(raw.get("tie_word_embeddings", False)),
            eos_ids=_eos_ids(raw, folder),
        )
    except KeyError as error:
        raise UnsupportedModelError(f"config.json lacks {error}") from error


def _refuse_unsupported(raw: Mapping[str, Any]) -> None:
    faults = []
    if raw.get("hidden_act", "silu") != "silu":
        faults.append(f"hidden_act {raw['hidden_act']!r} (silu is served)")
    faults.extend(f"{flag}=true" for flag in ("attention_bias", "mlp_bias") if raw.get(flag))
    scaling = raw.get("rope_scaling") or raw.get("rope_parameters") or {}
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind != "default":
        faults.append(f"rope scaling {kind!r}")
    if raw.get("quantization_config"):
        faults.append("quantization_config (convert the checkpoint to plain weights first)")
    if faults:
        raise UnsupportedModelError(f"this base is not supported: {'; '.join(faults)}")


def _rope_theta(raw: Mapping[str, Any]) -> float:
    """Transformers 5 writes the base frequency into `rope_parameters`, earlier releases next to the other fields."""
    parameters = raw.get("rope_parameters") or {}
    return float(parameters.get("rope_theta", raw.get("rope_theta", 10000.0)))


def _eos_ids(raw: Mapping[str, Any], folder: Path) -> frozenset[int]:
    """Generation stops at the ids of generation_config.json where there is one, else at config.json's."""
    value = raw.get("eos_token_id")
    generation = folder / "generation_config.json"
    if generation.is_file():
        value = json.loads(generation.read_text()).get("eos_token_id", value)
    ids = value if isinstance(value, list) else [value]
    return frozenset(int(token) for token in ids if token is not None)
