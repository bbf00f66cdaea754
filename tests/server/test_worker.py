"""What the engine process builds from its settings, family by family, and what it refuses at startup."""

import json
from collections.abc import Sequence as Seq
from pathlib import Path

import msgspec
import pytest
import torch
import zmq
from structlog.testing import capture_logs

from harness.adapters.artifacts import random_artifact
from harness.bases.families import FAMILIES
from headmix_adapters.base import ResolvedBase, resolve_base
from headmix_adapters.machine.cpus import CpuBudget
from headmix_adapters.presets import kernel_mix_sites, preset_ranks
from headmix_server import worker
from headmix_server.core.messages import Embed, Generate
from headmix_server.core.runner import Batch, BatchRow, RowFailed, RowResult
from headmix_server.core.settings.settings import Settings
from headmix_server.core.types import EmbeddingParams, SamplingParams
from headmix_server.engine.step_thread import StepThread
from headmix_server.llm.session import EngineSession, adapter_ref, build_engine
from headmix_server.worker import StartError, _speculative_tokens, build_runner

GREEDY = SamplingParams(max_tokens=2, temperature=0)
MEAN = EmbeddingParams(pooling="mean", normalize=True)


def make_base(folder: Path, name: str, **overrides: object) -> ResolvedBase:
    FAMILIES[name].make(folder, overrides)
    return resolve_base(str(folder))


def test_cuda_that_is_not_there_is_a_reason_not_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(StartError, match="--device cuda: torch"):
        build_runner(Settings(base="tiny", device="cuda"), make_base(tmp_path, "llama"))


def test_bfloat16_may_be_asked_for_on_the_cpu(tmp_path: Path) -> None:
    engine = build_engine(make_base(tmp_path, "llama"), Settings(base="tiny", dtype="bfloat16", device="cpu"))
    session = EngineSession(engine)
    session.submit(Generate(request_id="g", tenant="t", prompt=[5, 6], adapter=None, sampling=GREEDY))
    session.drain()
    engine.close()
    assert session.answers["g"].failure is None
    assert len(session.answers["g"].tokens) in {1, 2}


def test_steps_compute_on_the_threads_asked_for_whatever_others_set(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    context = zmq.Context()
    runner, _ = build_runner(Settings(base="tiny", threads=before + 1, kv_cache_mib=1), make_base(tmp_path, "llama"))
    torch.set_num_threads(before)
    seen = []

    def run(batch: Batch) -> Seq[RowResult]:
        results = runner.run(batch)
        seen.append(torch.get_num_threads())
        return results

    steps = StepThread(run, context)
    try:
        steps.start(Batch(()))
        assert steps.take() == []
    finally:
        steps.close()
        context.term()
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("quota", "expected"), [(None, 3), (0.5, 1), (1.5, 2), (64.0, 3)])
def test_without_a_wish_threads_are_what_the_process_may_keep_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: float | None, expected: int
) -> None:
    monkeypatch.setattr(worker, "read_cpu_budget", lambda: CpuBudget(affinity=3, quota=quota))
    base, before = make_base(tmp_path, "llama"), torch.get_num_threads()
    torch.set_num_threads(5)
    try:
        with capture_logs() as lines:
            build_runner(Settings(base="tiny", kv_cache_mib=1), base)
    finally:
        torch.set_num_threads(before)
    (line,) = [line for line in lines if line["event"] == "threads"]
    assert (line["threads"], line["asked_for"], line["affinity"], line["cpu_quota"]) == (expected, False, 3, quota)


def test_more_threads_than_the_quota_are_given_with_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "read_cpu_budget", lambda: CpuBudget(affinity=8, quota=1.0))
    base, before = make_base(tmp_path, "llama"), torch.get_num_threads()
    try:
        with capture_logs() as lines:
            build_runner(Settings(base="tiny", threads=2, kv_cache_mib=1), base)
    finally:
        torch.set_num_threads(before)
    assert [line["threads"] for line in lines if line["event"] == "threads"] == [2]
    assert [line["cores"] for line in lines if "more threads than cores" in line["event"]] == [1]


@pytest.mark.parametrize(
    ("wanted", "captured", "given"), [(8, False, 8), (0, False, 0), (8, True, 0)], ids=["on", "off", "captured steps"]
)
def test_the_log_says_whether_tokens_are_guessed_ahead(wanted: int, captured: bool, given: int) -> None:
    with capture_logs() as lines:
        assert _speculative_tokens(Settings(base="tiny", speculative_tokens=wanted), captured=captured) == given
    assert [(line["event"], line["tokens"]) for line in lines] == [("speculation", given)]
    assert ("reason" in lines[0]) == captured


def test_an_encoder_runs_whole_texts_and_needs_no_cache_memory(tmp_path: Path) -> None:
    settings = Settings(base="tiny", kv_cache_mib=1, max_running=7, block_size=4)
    _, limits = build_runner(settings, make_base(tmp_path, "roberta"))
    assert limits.whole_prompts
    assert limits.max_model_len == 128  # 130 rows of positions, two of them below the first token's
    assert limits.kv_blocks * limits.block_size >= 7 * 128
    assert limits.longest == 128


def test_a_text_longer_than_the_token_budget_is_too_long_for_an_encoder(tmp_path: Path) -> None:
    base = make_base(tmp_path, "bert")
    assert build_runner(Settings(base="tiny", max_batch_tokens=40), base)[1].longest == 40


def test_generation_on_an_encoder_is_refused_by_the_engine_and_by_the_runner(tmp_path: Path) -> None:
    base = make_base(tmp_path, "bert")
    engine = build_engine(base, Settings(base="tiny"))
    session = EngineSession(engine)
    session.submit(Generate(request_id="g", tenant="t", prompt=[5, 6], adapter=None, sampling=GREEDY))
    session.submit(Embed(request_id="e", tenant="t", prompt=[5, 6], adapter=None, params=MEAN))
    session.drain()
    engine.close()
    assert (session.answers["g"].failure or "").startswith("task_mismatch: ")
    assert len(session.answers["e"].vector) == 32
    runner, _ = build_runner(Settings(base="tiny"), base)
    embeds = BatchRow(
        sequence_id=1,
        start=0,
        count=2,
        history=[5, 6, 7],
        prompt_length=3,
        blocks=[0],
        lease=None,
        samples=False,
        params=MEAN,
    )
    rows = (
        msgspec.structs.replace(embeds, samples=True, params=GREEDY),
        msgspec.structs.replace(embeds, sequence_id=2),
        msgspec.structs.replace(embeds, sequence_id=3, start=1, samples=True),
    )
    reasons = [r.result.message for r in runner.run(Batch(rows)) if isinstance(r.result, RowFailed)]
    part = "the base reads whole texts, and this row is a part of one"
    assert reasons == ["the base reads whole texts; it does not generate", part, part]


@pytest.mark.parametrize(
    ("name", "field", "value", "reason"),
    [
        ("gpt2", "add_cross_attention", True, "add_cross_attention=true"),
        ("llama", "model_type", "mamba", "model_type 'mamba' is not served"),
        ("llama", "intermediate_size", 40, "expected (40, 32)"),
    ],
)
def test_a_base_that_is_not_computed_is_refused_at_start(
    tmp_path: Path, name: str, field: str, value: object, reason: str
) -> None:
    FAMILIES[name].make(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(StartError) as caught:
        build_runner(Settings(base="tiny"), resolve_base(str(tmp_path)))
    assert reason in str(caught.value)


def test_more_tokens_than_the_base_has_positions_are_refused_at_start(tmp_path: Path) -> None:
    base = make_base(tmp_path, "gpt2")
    with pytest.raises(
        StartError, match=r"--max-model-len \(HEADMIX_MAX_MODEL_LEN\) takes at most the base's 256 positions, not 257"
    ):
        build_runner(Settings(base="tiny", max_model_len=257), base)


@pytest.mark.parametrize("name", FAMILIES)
def test_adapters_are_judged_by_the_dimensions_the_model_computes_with(tmp_path: Path, name: str) -> None:
    base = make_base(tmp_path, name)
    build_runner(Settings(base="tiny", kv_cache_mib=1), base)
    assert base.shape.model_type == name
    assert base.shape.intermediate_size == (128 if name == "gpt2" else 48)
    assert base.shape.gated_mlp == (name not in ("gpt2", "bert", "roberta"))


def test_two_readings_of_a_config_that_disagree_stop_the_start(tmp_path: Path) -> None:
    base = make_base(tmp_path, "llama")
    narrow = msgspec.structs.replace(base.shape, head_dim=8)
    with pytest.raises(StartError, match="head_dim is read as 8 for adapters and as 12 for computing"):
        build_runner(Settings(base="tiny"), ResolvedBase(base.name, base.folder, narrow))


def test_an_int8_base_serves_adapters_of_its_float_weights_each_row_as_alone(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama")
    artifact = tmp_path / "a.safetensors"
    random_artifact(artifact, base.shape, kernel_mix_sites(preset_ranks("gpt2-nlg")), seed=1, scale=0.3)
    engine = build_engine(base, Settings(base="tiny", quantize="int8"))
    adapters = {"base": None, "own": adapter_ref(artifact)}
    requests = [
        Generate(
            request_id=f"{name}{length}",
            tenant="t",
            prompt=list(range(20, 20 + length)),
            adapter=adapter,
            sampling=SamplingParams(max_tokens=12, temperature=0, ignore_eos=True),
        )
        for name, adapter in adapters.items()
        for length in (3, 30)
    ]
    alone = EngineSession(engine)
    for request in requests:
        alone.submit(request)
        alone.drain()
    together = EngineSession(engine)
    for request in requests:
        together.submit(request)
    together.drain()
    engine.close()
    assert {name: answer.tokens for name, answer in together.answers.items()} == {
        name: answer.tokens for name, answer in alone.answers.items()
    }
    assert alone.answers["own3"].failure is None
    assert alone.answers["own3"].tokens != alone.answers["base3"].tokens
