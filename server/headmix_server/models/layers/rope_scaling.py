"""The frequencies of rotary embedding according to config.json: plain, or scaled for longer contexts.

The formulas are those of transformers: linear (position interpolation, arXiv 2306.15595), dynamic (NTK by length),
llama3 (Llama 3.1) and yarn (arXiv 2309.00071). Other kinds and partial rotation are refused.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from headmix_server.models.layers.rotary import Rotary
from headmix_server.models.loading.config_reader import ConfigReader

DEFAULT_THETA = 10000.0


def read_rotary(reader: ConfigReader, head_dim: int, max_positions: int) -> Rotary:
    """Return the rotary embedding of a family that shares one between all its layers; faults go to the reader.

    `max_positions` is the value of max_position_embeddings. Transformers 5 writes `rope_parameters`; older releases
    write `rope_theta` and `rope_scaling`.
    """
    parameters = reader.mapping("rope_scaling", "rope_parameters")
    parameters.setdefault("rope_theta", reader.number("rope_theta", default=DEFAULT_THETA))
    reader.require("partial_rotary_factor", 1.0)
    if (original := reader.get("original_max_position_embeddings")) is not None:
        parameters["original_max_position_embeddings"] = original
    return make_rotary(reader, parameters, head_dim, max_positions)


def make_rotary(reader: ConfigReader, parameters: Mapping[str, Any], head_dim: int, max_positions: int) -> Rotary:
    """Return the rotary embedding that one set of parameters describes; faults go to the reader."""
    kind = parameters.get("rope_type") or parameters.get("type") or "default"
    fields = {"original_max_position_embeddings": max_positions} | dict(parameters)
    if head_dim % 2:
        reader.fault(f"rotary embedding of an odd head size ({head_dim})")
    if fields.get("partial_rotary_factor") not in (None, 1.0):
        reader.fault(f"partial_rotary_factor={fields['partial_rotary_factor']} (whole heads are rotated)")
    try:
        theta = float(fields["rope_theta"])
        plain = 1.0 / theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)  # [P / 2]
        match kind:
            case "default" | "dynamic":
                # Dynamic NTK changes nothing up to max_position_embeddings. Longer sequences are not served:
                # for them, transformers' angles depend on how a text was cut into steps and on its neighbours.
                return Rotary(plain)
            case "linear":
                return Rotary(plain / float(fields["factor"]))
            case "llama3":
                return Rotary(_llama3(plain, fields))
            case "yarn":
                return _yarn(plain, theta, fields, max_positions)
        reader.fault(f"rope scaling {kind!r} (served: linear, dynamic, llama3, yarn)")
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        reader.fault(f"rope scaling {kind!r} with unusable parameters: {type(error).__name__} {error}")
    return Rotary(torch.zeros(head_dim // 2))


def _llama3(plain: Tensor, fields: Mapping[str, Any]) -> Tensor:
    factor, low, high = (float(fields[name]) for name in ("factor", "low_freq_factor", "high_freq_factor"))
    original = float(fields["original_max_position_embeddings"])
    wavelength = 2 * math.pi / plain
    smooth = (original / wavelength - low) / (high - low)
    between = (1 - smooth) * plain / factor + smooth * plain
    scaled = torch.where(wavelength > original / low, plain / factor, between)
    return torch.where(wavelength < original / high, plain, scaled)


def _yarn(plain: Tensor, theta: float, fields: Mapping[str, Any], max_positions: int) -> Rotary:
    original = float(fields["original_max_position_embeddings"])
    factor = fields.get("factor")
    factor = max_positions / original if factor is None else float(factor)
    half = plain.numel()

    def dimension(rotations: float) -> float:
        return 2 * half * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low, high = dimension(float(fields.get("beta_fast") or 32)), dimension(float(fields.get("beta_slow") or 1))
    if fields.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, 2 * half - 1)
    if low == high:
        high += 0.001
    interpolated = ((torch.arange(half, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
    inverse = plain / factor * interpolated + plain * (1 - interpolated)
    return Rotary(inverse, _yarn_attention(fields, factor))


def _yarn_attention(fields: Mapping[str, Any], factor: float) -> float:
    if (given := fields.get("attention_factor")) is not None:
        return float(given)

    def scale(multiplier: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * multiplier * math.log(factor) + 1.0

    mscale, mscale_all_dim = fields.get("mscale"), fields.get("mscale_all_dim")
    if mscale and mscale_all_dim:
        return scale(float(mscale)) / scale(float(mscale_all_dim))
    return scale(1.0)
