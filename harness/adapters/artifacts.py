"""Artifacts for tests: valid ones with random values, and the parts to build others from."""

import json
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import save
from torch import Tensor

from headmix_adapters.artifact.write import write_artifact
from headmix_adapters.config import AdapterConfig, BaseShape, ClassifierConfig, Sites, encode_config
from headmix_adapters.presets import Ranks, kernel_mix_sites
from headmix_adapters.sites import tensor_shapes

Json = dict[str, Any]


def tiny_base_shape(**changes: Any) -> BaseShape:
    """Return a base of two layers with grouped-query attention: D 32, H 4, G 2, P 8."""
    base = BaseShape(
        name="tiny",
        model_type="llama",
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=8,
        vocab_size=64,
        fingerprint="sha256:00000000",
    )
    return msgspec.structs.replace(base, **changes)


def tiny_sites() -> Sites:
    """Return every part of the paper's three sites, with small ranks that all differ."""
    return kernel_mix_sites(Ranks(q=2, v=3, q_shared=4, v_shared=1))


def adapter_config(base: BaseShape, sites: Sites | None = None, **changes: Any) -> AdapterConfig:
    """Return a generation adapter's config; `changes` replaces any of its fields."""
    config = AdapterConfig(method="kernel-mix", task="generation", base=base, sites=sites or tiny_sites())
    return msgspec.structs.replace(config, **changes)


def classifier_config(*labels: str, **changes: Any) -> ClassifierConfig:
    """Return a linear head with these labels, or with two."""
    config = ClassifierConfig(pooling="last", kind="linear", labels=labels or ("negative", "positive"))
    return msgspec.structs.replace(config, **changes)


def random_tensors(
    config: AdapterConfig, seed: int = 0, layers: Iterable[int] | None = None, scale: float = 0.1
) -> dict[str, Tensor]:
    """Return normally distributed float32 values in the config's shapes; the same seed gives the same values."""
    generator = torch.Generator().manual_seed(seed)
    shapes = tensor_shapes(config, None if layers is None else tuple(layers))
    return {name: torch.randn(shape, generator=generator) * scale for name, shape in shapes.items()}


def nested(depth: int) -> Json:
    """Return an object nested `depth` containers deep, including itself."""
    value: list[Any] = []
    for _ in range(depth - 2):
        value = [value]
    return {"a": value} if depth > 1 else {}


def with_description(content: bytes, changes: Json) -> bytes:
    """Return the file with other fields in its description, as other tools may write it; `base` is merged by field."""
    length = int.from_bytes(content[:8], "little")
    index = json.loads(content[8 : 8 + length])
    config = json.loads(index["__metadata__"]["headmix"])
    config |= changes | {"base": config["base"] | changes.get("base", {})}
    index["__metadata__"] = {"headmix": json.dumps(config)}
    header = json.dumps(index).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def random_artifact(
    path: Path,
    base: BaseShape,
    sites: Sites | None = None,
    *,
    seed: int = 0,
    layers: Iterable[int] | None = None,
    classifier: ClassifierConfig | None = None,
    dtype: torch.dtype = torch.bfloat16,
    scale: float = 0.1,
    **changes: Any,
) -> str:
    """Write a valid artifact and return its digest; with a classifier, its task is classification."""
    task = "generation" if classifier is None else "classification"
    config = adapter_config(base, sites, task=task, classifier=classifier, **changes)
    return write_artifact(path, config, random_tensors(config, seed, layers, scale), dtype)


def pack(config: AdapterConfig | Json | str | None, tensors: dict[str, Tensor]) -> bytes:
    """Return a safetensors file with this config, unchecked; None omits the metadata."""
    if isinstance(config, AdapterConfig):
        config = encode_config(config)
    elif isinstance(config, dict):
        config = json.dumps(config)
    copies = {name: tensor.clone() for name, tensor in tensors.items()}
    return save(copies, metadata=None if config is None else {"headmix": config})


def container(header: bytes, data: bytes = b"") -> bytes:
    """Return a safetensors file with exactly this header text and data."""
    return struct.pack("<Q", len(header)) + header + data


def edit_header(file: bytes, edit: Callable[[Json], None]) -> bytes:
    """Return the file with its header changed by `edit` and its data unchanged."""
    (length,) = struct.unpack("<Q", file[:8])
    header = json.loads(file[8 : 8 + length])
    edit(header)
    return container(json.dumps(header).encode(), file[8 + length :])
