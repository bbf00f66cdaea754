"""Non-finite numbers are never an answer: whatever a row's task, it fails alone, and nothing of it is kept."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.adapters.artifacts import adapter_config, classifier_config, pack
from harness.adapters.mixed_sites import MIXED_SITES, MLP_SITES
from harness.bases.families import FAMILIES
from harness.bases.tiny_model import make_tiny_llama, tiny_shape
from harness.engine.static_rig import fixed_storage, static_decode
from headmix_adapters.artifact.parse import read_stored
from headmix_adapters.config import BaseShape, ClassifierConfig, Problem, Sites
from headmix_adapters.sites import tensor_shapes
from headmix_server.core.errors import NumericalError
from headmix_server.core.runner import NOT_FINITE, Batch, BatchRow, Lease, Pooled, RowFailed, RowResult, Sampled, Scored
from headmix_server.core.types import ClassificationParams, EmbeddingParams, SamplingParams
from headmix_server.device.adapters.adapter_files import LoadedAdapter, from_stored
from headmix_server.device.adapters.choose_storage import make_storage
from headmix_server.device.adapters.slot_storage import SlotStorage
from headmix_server.device.kv_memory import KVMemory
from headmix_server.device.placement import Placement
from headmix_server.device.runner import TorchRunner
from headmix_server.kernels.attention.backend import NATIVE, TORCH
from headmix_server.kernels.native.loading import load_native
from headmix_server.models.formats.choose_format import choose_format
from headmix_server.models.formats.linear_format import PLAIN, LinearFormat
from headmix_server.models.loading.registry import load_model

BLOCK, BLOCKS, HUGE = 4, 12, 1.7e38
CPU = torch.device("cpu")
PATHS = ["torch, float32", "torch, bfloat16", "static, float32", "native, float32", "native, bfloat16", "native, int8"]
GREEDY = SamplingParams(max_tokens=4, temperature=0)
FORMATS: Mapping[str, Callable[[str], LinearFormat]] = {
    "float32": lambda _: choose_format(torch.float32),
    "bfloat16": lambda kind: choose_format(torch.bfloat16) if kind == "native" else PLAIN,
    "int8": lambda _: choose_format(torch.float32, "int8"),
}
RowKind = Mapping[str, Any]
GENERATIONS: Mapping[str, RowKind] = {
    "greedy": {"params": GREEDY},
    "sampled": {"params": SamplingParams(max_tokens=4, temperature=0.9, top_k=9, top_p=0.9, seed=2)},
    "penalised": {"params": SamplingParams(max_tokens=4, temperature=0, repetition_penalty=1.2)},
    "log-probabilities": {"params": SamplingParams(max_tokens=4, temperature=0, logprobs=3)},
    "prompt's": {"params": SamplingParams(max_tokens=4, temperature=0, logprobs=0, prompt_logprobs=True)},
}
EMBEDDINGS: Mapping[str, RowKind] = {
    f"{pooling}, {'normalised' if normalize else 'raw'}": {
        "params": EmbeddingParams(pooling=pooling, normalize=normalize),
    }
    for pooling in ("last", "mean", "cls")
    for normalize in (True, False)
}
EVERY_KIND: Mapping[str, RowKind] = {**GENERATIONS, **EMBEDDINGS}
HEADS: Mapping[str, ClassifierConfig] = {
    "single label": classifier_config("a", "b", "c"),
    "multi-label": classifier_config("a", "b", "c", problem="multi_label", pooling="mean"),
    "regression": classifier_config("a", problem="regression"),
    "mlp": classifier_config("a", "b", kind="mlp-tanh", pooling="cls"),
}


class Rig:
    """A runner with one path on a tiny Llama, and its cache."""

    def __init__(self, path: str, folder: Path) -> None:
        kind, form = path.split(", ")
        if kind == "native" and not load_native():
            pytest.skip("no native kernels here")
        make_tiny_llama(folder, {"intermediate_size": 48})
        self.base = tiny_shape()
        self.base = BaseShape(
            **{f: getattr(self.base, f) for f in self.base.__struct_fields__} | {"intermediate_size": 48}
        )
        dtype = torch.bfloat16 if path == "torch, bfloat16" else torch.float32
        placement = Placement(CPU, dtype)
        model = load_model(folder, dtype, FORMATS[form](kind))
        self.memory = KVMemory(model.config, BLOCKS + 1, BLOCK, dtype)
        if kind == "static":
            fixed = fixed_storage(self.base, 4)
            decode = static_decode(model, fixed, self.memory, BLOCKS, placement)
            self.runner = TorchRunner(model, self.base, self.memory, fixed, placement, decode, TORCH)
        else:
            storage: SlotStorage = make_storage("native" if kind == "native" else "torch", self.base, 4, dtype)
            attention = NATIVE if kind == "native" else TORCH
            self.runner = TorchRunner(model, self.base, self.memory, storage, placement, attention=attention)

    def install(self, slot: int, adapter: LoadedAdapter) -> Lease:
        self.runner.install(slot, 1, adapter)
        return Lease(slot, 1, slot, adapter.digest)

    def run(self, *rows: BatchRow) -> list[RowResult]:
        results = self.runner.run(Batch(rows))
        for keys, values in self.memory.layers:  # whatever happened, no trace is left for others to find
            assert keys.isfinite().all()
            assert values.isfinite().all()
        return results


@pytest.fixture(params=PATHS)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    return Rig(request.param, tmp_path)


def draw(name: str, shape: Sequence[int]) -> Tensor:
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(len(name))) * 0.1


def adapter(
    base: BaseShape,
    digest: str,
    huge: Callable[[str], bool] = lambda _: False,
    *,
    sites: Sites = MIXED_SITES[0],
    value: float = HUGE,
    **config: Any,
) -> LoadedAdapter:
    """Make an adapter; tensors whose name is `huge` are full of one large number."""
    made = adapter_config(base, sites, **config)
    tensors = {
        name: torch.full(tuple(shape), value) if huge(name) else draw(name, shape)
        for name, shape in tensor_shapes(made, None).items()
    }
    return from_stored(digest, read_stored(bytearray(pack(made, tensors))))


def row(number: int, lease: Lease | None, kind: RowKind, *, start: int = 0, end: int = 7, **changes: Any) -> BatchRow:
    fields: dict[str, Any] = {
        "sequence_id": number,
        "start": start,
        "count": end - start,
        "history": [(5 + 31 * number + 3 * place) % 512 for place in range(end)],
        "prompt_length": min(end, 7),
        "blocks": [3 * number, 3 * number + 1, 3 * number + 2],
        "lease": lease,
        "samples": True,
        "params": ClassificationParams(),
    }
    return BatchRow(**(fields | dict(kind) | changes))


def is_answer(result: RowResult) -> bool:
    match result.result:
        case Sampled(_, logprob):
            return logprob is None or math.isfinite(logprob.logprob)
        case Scored(numbers) | Pooled(numbers):
            return all(map(math.isfinite, numbers))
    return False


@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.parametrize("sites", [MIXED_SITES[0], MIXED_SITES[2], MLP_SITES], ids=["heads", "shared", "mlp"])
def test_an_adapter_that_overflows_answers_nothing_and_its_neighbours_do(rig: Rig, kind: str, sites: Sites) -> None:
    huge = rig.install(0, adapter(rig.base, "sha256:0", lambda _: True, sites=sites))
    sound = rig.install(1, adapter(rig.base, "sha256:1"))
    rows = [row(number, lease, EVERY_KIND[kind]) for number, lease in enumerate((None, huge, sound))]
    results = rig.run(*rows)
    assert [is_answer(result) for result in results] == [True, False, True]
    assert results[1] == RowResult(1, NOT_FINITE)
    if kind in GENERATIONS:  # a step of single rows has its own path
        results = rig.run(
            *(row(n, lease, EVERY_KIND[kind], start=7, end=8) for n, lease in enumerate((None, huge, sound)))
        )
        assert [is_answer(result) for result in results] == [True, False, True]


@pytest.mark.parametrize("kind", ["greedy", "prompt's", "mean, normalised"])
def test_a_chunk_fails_at_once_though_nothing_is_due_yet(rig: Rig, kind: str) -> None:
    huge = rig.install(0, adapter(rig.base, "sha256:0", lambda _: True))
    chunk = row(1, huge, EVERY_KIND[kind], end=5, prompt_length=11, samples=False)
    base = row(0, None, EVERY_KIND[kind], end=5, prompt_length=11, samples=False)
    results = rig.run(chunk, base)
    assert results[0] == RowResult(1, NOT_FINITE)
    assert not isinstance(results[1].result, RowFailed)


@pytest.mark.parametrize("value", [1e12, 1e18, 1e25])
def test_states_too_large_to_be_normalised_are_no_answer_either(rig: Rig, value: float) -> None:
    lease = rig.install(0, adapter(rig.base, "sha256:0", lambda name: ".o." in name, value=value))
    found = rig.run(row(1, lease, GENERATIONS["log-probabilities"]), row(0, None, GENERATIONS["greedy"]))
    assert found[0] == RowResult(1, NOT_FINITE)
    assert is_answer(found[1])


@pytest.mark.parametrize("part", ["all", "head"])
@pytest.mark.parametrize("head", HEADS)
def test_a_classifier_that_overflows_has_no_scores(rig: Rig, head: str, part: str) -> None:
    if part == "head" and head == "mlp":
        pytest.skip("its tanh is 1 for whatever is too large, as it should be")
    config: dict[str, Any] = {"task": "classification", "classifier": HEADS[head]}
    huge = rig.install(
        0, adapter(rig.base, "sha256:0", lambda name: part == "all" or name.startswith("classifier."), **config)
    )
    sound = rig.install(1, adapter(rig.base, "sha256:1", **config))
    results = rig.run(row(0, sound, {}), row(1, huge, {}), row(2, None, GENERATIONS["greedy"]))
    assert [is_answer(result) for result in results] == [True, False, True]
    assert results[1] == RowResult(1, NOT_FINITE)


@pytest.mark.parametrize("problem", ["single_label", "multi_label"])
def test_probabilities_of_infinite_scores_are_not_returned(rig: Rig, problem: Problem) -> None:
    config: dict[str, Any] = {"task": "classification", "classifier": classifier_config("a", "b", problem=problem)}
    lease = rig.install(0, adapter(rig.base, "sha256:0", lambda name: name == "classifier.out_proj.weight", **config))
    assert rig.run(row(1, lease, {})) == [RowResult(1, NOT_FINITE)]


@pytest.mark.parametrize("kind", GENERATIONS)
def test_added_tokens_that_overflow_fail_their_own_row(rig: Rig, kind: str) -> None:
    huge = rig.install(
        0, adapter(rig.base, "sha256:0", lambda name: name.startswith("added"), added_tokens=("<a>", "<b>"))
    )
    read = row(1, huge, GENERATIONS[kind])
    unread = row(2, huge, GENERATIONS[kind])  # scored like an output
    read = BatchRow(**{f: getattr(read, f) for f in read.__struct_fields__} | {"history": [5, 512, 9, 7, 8, 9, 4]})
    results = rig.run(row(0, None, GENERATIONS[kind]), read, unread)
    assert is_answer(results[0])
    assert results[1:] == [RowResult(1, NOT_FINITE), RowResult(2, NOT_FINITE)]


def test_what_a_failed_row_wrote_is_cleared_and_nobody_elses(rig: Rig) -> None:
    huge = rig.install(0, adapter(rig.base, "sha256:0", lambda _: True))
    rig.run(row(0, None, GENERATIONS["greedy"]))
    before = [(keys.clone(), values.clone()) for keys, values in rig.memory.layers]
    rig.run(row(1, huge, GENERATIONS["greedy"]))
    for now, then in zip(rig.memory.layers, before, strict=True):
        for side, kept in zip(now, then, strict=True):
            assert torch.equal(side[: BLOCK * BLOCKS], kept[: BLOCK * BLOCKS])
            assert not side[3 * BLOCK : 6 * BLOCK].any()


@pytest.mark.parametrize("kind", ["greedy", "sampled", "penalised", "log-probabilities"])
def test_a_draft_that_overflows_fails_nothing_and_is_cleared(rig: Rig, kind: str) -> None:
    huge = rig.install(
        0, adapter(rig.base, "sha256:0", lambda name: name.startswith("added"), added_tokens=("<a>", "<b>"))
    )
    params: RowKind = {"params": GENERATIONS[kind]["params"]}
    history = [5, 9, 7, 8, 9, 4, 3]
    drafted = row(1, huge, params, start=6, end=9, history=history, prompt_length=5, drafts=[512, 9])
    plain = row(0, None, params, start=6, end=7, prompt_length=5)
    unread = row(2, None, params, start=6, end=9, history=history, prompt_length=5, drafts=[3, 9])
    results = rig.run(plain, drafted, unread)
    assert results[1] == RowResult(1)  # to be computed again, alone
    assert is_answer(results[0])
    assert is_answer(results[2])


@pytest.mark.parametrize("kind", ["greedy", "sampled", "penalised", "log-probabilities"])
def test_drafts_that_are_right_yield_what_single_steps_do(rig: Rig, kind: str) -> None:
    lease = rig.install(0, adapter(rig.base, "sha256:0"))
    params: RowKind = {"params": GENERATIONS[kind]["params"], "prompt_length": 7}
    said: list[Sampled] = []
    history = list(row(1, lease, params).history)
    for end in range(7, 11):
        start = 0 if end == 7 else end - 1
        (result,) = rig.run(row(1, lease, params, start=start, end=end, history=list(history)))
        assert isinstance(result.result, Sampled)
        said.append(result.result)
        history.append(result.result.token)
    right = [sampled.token for sampled in said]
    rig.runner.release(1)
    for drafts in (right[1:3], [right[1], (right[2] + 1) % 512], [(right[1] + 1) % 512, right[2]]):
        asked = row(1, lease, params, start=7, end=10, history=history[:8], drafts=drafts)
        (result,) = rig.run(asked)
        expected = said[1 : 2 + (drafts[0] == right[1]) + (drafts == right[1:3])]
        assert [sampled.token for sampled in result.tokens] == [sampled.token for sampled in expected]
        for found, wanted in zip(result.tokens, expected, strict=True):
            assert (found.logprob is None) == (wanted.logprob is None)
            if found.logprob and wanted.logprob:
                assert found.logprob.logprob == pytest.approx(wanted.logprob.logprob, abs=1e-4)


@pytest.mark.parametrize("family", [name for name, family in FAMILIES.items() if not family.causal])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_encoders_rows_fail_alone_too(family: str, dtype: torch.dtype, tmp_path: Path) -> None:
    FAMILIES[family].make(tmp_path)
    model = load_model(tmp_path, dtype)
    config = model.config
    base = BaseShape(
        name="tiny", model_type=family, hidden_size=config.hidden_size, num_layers=config.num_layers,
        num_heads=config.num_heads, num_kv_heads=config.num_kv_heads, head_dim=config.head_dim,
        vocab_size=config.vocab_size, fingerprint="sha256:" + "0" * 64,
    )  # fmt: skip
    runner = TorchRunner(model, base, None, make_storage("auto", base, 3, dtype), Placement(CPU, dtype))
    head: dict[str, Any] = {"task": "classification", "classifier": HEADS["single label"]}
    for slot, huge in ((0, True), (1, False)):
        runner.install(slot, 1, adapter(base, f"sha256:{slot}", lambda _, huge=huge: huge, **head))  # type: ignore[misc]
    mean = EMBEDDINGS["mean, normalised"]
    leases = [Lease(slot, 1, slot, f"sha256:{slot}") for slot in (0, 1)]
    rows = [
        row(0, None, mean),
        row(1, leases[0], {}),
        row(2, leases[1], {}),
        row(3, leases[0], mean),
        row(4, leases[1], mean),
    ]
    found = runner.run(Batch(tuple(rows)))
    assert [is_answer(result) for result in found] == [True, False, True, False, True]
    assert [r.result.code for r in found if isinstance(r.result, RowFailed)] == [NumericalError.code] * 2
