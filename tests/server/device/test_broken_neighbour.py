"""An adapter that overflows breaks only its own answers: on every path, in the same step and in later ones.

Each batch runs twice, once with an adapter of finite but huge weights and once with a normal one in its place. Shapes
are the same, so all other rows must get the same bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from harness.adapters.artifacts import adapter_config, pack, random_tensors
from harness.adapters.mixed_sites import MIXED_SITES
from harness.bases.families import FAMILIES
from harness.bases.tiny_model import tiny_shape
from harness.engine.static_rig import fixed_storage, static_decode
from headmix_adapters.artifact.parse import read_stored
from headmix_adapters.config import BaseShape
from headmix_server.core.runner import Batch, BatchRow, Lease, RowFailed, RowResult
from headmix_server.core.types import EmbeddingParams, SamplingParams
from headmix_server.device.adapters.adapter_files import LoadedAdapter, from_stored
from headmix_server.device.adapters.choose_storage import make_storage
from headmix_server.device.adapters.slot_storage import SlotStorage
from headmix_server.device.kv_memory import KVMemory
from headmix_server.device.placement import Placement
from headmix_server.device.runner import TorchRunner
from headmix_server.kernels.attention.backend import NATIVE, TORCH
from headmix_server.kernels.native.loading import load_native
from headmix_server.models.loading.registry import load_model

BLOCK, BLOCKS = 4, 16
HUGE = 1.7e38
"""Finite in bfloat16 and float32; the product of two such numbers is not."""

SAMPLING = SamplingParams(max_tokens=8, temperature=0, logprobs=3, prompt_logprobs=True)
OTHER, SOUND = "sha256:other", "sha256:sound"
OTHER_LEASE, SOUND_LEASE = Lease(1, 1, 1, OTHER), Lease(0, 1, 2, SOUND)


@dataclass(frozen=True)
class Computing:
    """How a runner computes: attention and adapters with torch, with native kernels, or decoding in static steps."""

    kind: str
    dtype: torch.dtype

    def runner(self, folder: Path, base: BaseShape) -> TorchRunner:
        placement = Placement(torch.device("cpu"), self.dtype)
        model = load_model(folder, self.dtype)
        memory = KVMemory(model.config, BLOCKS + 1, BLOCK, self.dtype) if model.generates else None
        if self.kind == "static":
            assert memory is not None
            fixed = fixed_storage(base, 2, placement=placement)
            decode = static_decode(model, fixed, memory, BLOCKS, placement)
            return TorchRunner(model, base, memory, fixed, placement, decode, TORCH)
        native = self.kind == "native"
        storage: SlotStorage = make_storage("native" if native else "torch", base, 2, self.dtype)
        return TorchRunner(model, base, memory, storage, placement, attention=NATIVE if native else TORCH)


PATHS = [
    pytest.param(Computing("torch", torch.float32), id="torch, float32"),
    pytest.param(Computing("torch", torch.bfloat16), id="torch, bfloat16"),
    pytest.param(
        Computing("native", torch.float32),
        id="native, float32",
        marks=pytest.mark.skipif(not load_native(), reason="no native kernels here"),
    ),
    pytest.param(Computing("static", torch.float32), id="static, float32"),
    pytest.param(Computing("static", torch.bfloat16), id="static, bfloat16"),
]


def shape_of(family: str, folder: Path) -> BaseShape:
    config = load_model(folder, torch.float32).config
    return msgspec.structs.replace(
        tiny_shape(),
        model_type=family,
        hidden_size=config.hidden_size,
        num_heads=config.num_heads,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        num_layers=config.num_layers,
        vocab_size=config.vocab_size,
        intermediate_size=48,
    )


def adapter(base: BaseShape, digest: str, seed: int, *, huge: bool = False) -> LoadedAdapter:
    config = adapter_config(base, MIXED_SITES[0])
    tensors = random_tensors(config, seed)
    if huge:
        tensors = {name: torch.full_like(tensor, HUGE) for name, tensor in tensors.items()}
    return from_stored(digest, read_stored(bytearray(pack(config, tensors))))


def row(number: int, span: tuple[int, int], blocks: Sequence[int], lease: Lease | None, **changes: Any) -> BatchRow:
    """Return a sequence's tokens from `span[0]` up to `span[1]`; its tokens do not depend on what was sampled."""
    start, end = span
    history = [5 + (7 * number + 3 * place) % 400 for place in range(end)]
    fields: dict[str, Any] = {
        "sequence_id": number,
        "start": start,
        "count": end - start,
        "history": history,
        "prompt_length": 6,
        "blocks": list(blocks),
        "lease": lease,
        "samples": True,
        "params": SAMPLING,
    }
    return BatchRow(**(fields | changes))


def neighbours(runner: TorchRunner, batches: Sequence[Sequence[BatchRow]]) -> list[dict[int, RowResult]]:
    """Run the batches and return the results of all rows that do not use the other adapter."""
    found = []
    for rows in batches:
        results = runner.run(Batch(tuple(rows)))
        kept = [(r, result) for r, result in zip(rows, results, strict=True) if r.lease != OTHER_LEASE]
        assert not any(isinstance(result.result, RowFailed) for _, result in kept)
        found.append({r.sequence_id: result for r, result in kept})
    return found


def run_twice(path: Computing, folder: Path, family: str, batches: Sequence[Sequence[BatchRow]]) -> None:
    base, answers = shape_of(family, folder), []
    for huge in (False, True):
        runner = path.runner(folder, base)
        runner.install(0, 1, adapter(base, SOUND, 1))
        runner.install(1, 1, adapter(base, OTHER, 2, huge=huge))
        answers.append(neighbours(runner, batches))
    for number, (found, expected) in enumerate(zip(answers[1], answers[0], strict=True)):
        assert found == expected, f"step {number}"


@pytest.mark.parametrize("family", [name for name, family in FAMILIES.items() if family.causal])
@pytest.mark.parametrize("path", PATHS)
def test_others_are_answered_the_same_beside_an_adapter_that_overflows_and_after_it(
    path: Computing, family: str, tmp_path: Path
) -> None:
    FAMILIES[family].make(tmp_path)
    ours, theirs, mine = (3, 4, 8, 9), (0, 1, 2, 10), (5, 6, 7, 11)  # block 0 is the hostile sequence's
    prompts = [row(0, (0, 11), theirs, OTHER_LEASE), row(1, (0, 6), ours, None), row(2, (0, 9), mine, SOUND_LEASE)]
    decodes = [
        [
            row(0, (11 + step, 12 + step), theirs, OTHER_LEASE),
            row(1, (6 + step, 7 + step), ours, None),
            row(2, (9 + step, 10 + step), mine, SOUND_LEASE),
        ]
        for step in range(3)
    ]
    # it has ended: its blocks go to a new sequence, whose end was never written, and to chunked prompts
    after = [
        [row(3, (0, 2), (2,), None), row(1, (9, 10), ours, None), row(4, (0, 6), (1, 0), SOUND_LEASE)],
        [row(3, (2, 3), (2,), None), row(1, (10, 11), ours, None), row(4, (6, 7), (1, 0), SOUND_LEASE)],
        [row(3, (3, 4), (2,), None), row(5, (0, 9), (10, 12, 13), None), row(4, (7, 8), (1, 0), SOUND_LEASE)],
        [row(3, (4, 5), (2, 14), None), row(5, (9, 11), (10, 12, 13), None), row(4, (8, 9), (1, 0, 15), SOUND_LEASE)],
    ]
    run_twice(path, tmp_path, family, [prompts, *decodes, *after])


@pytest.mark.parametrize("family", [name for name, family in FAMILIES.items() if not family.causal])
@pytest.mark.parametrize("path", [path for path in PATHS if path.values[0].kind != "static"])  # type: ignore[union-attr]
def test_texts_are_read_the_same_beside_an_adapter_that_overflows(path: Computing, family: str, tmp_path: Path) -> None:
    FAMILIES[family].make(tmp_path)
    mean = {"params": EmbeddingParams(pooling="mean", normalize=True)}
    texts = [
        row(0, (0, 30), (0,), OTHER_LEASE, **mean),
        row(1, (0, 7), (1,), None, **mean),
        row(2, (0, 1), (2,), SOUND_LEASE, **mean),
    ]
    run_twice(path, tmp_path, family, [texts, texts[1:]])
