"""The fake runner follows the real one's contract: deterministic, different per adapter, and raises on stale leases."""

from math import hypot
from pathlib import Path

import pytest

from harness.engine.engines import adapter
from headmix_adapters.config import Pooling
from headmix_server.core.runner import (
    AdapterLoadError,
    Batch,
    BatchRow,
    Lease,
    Pooled,
    RowFailed,
    RowResult,
    Sampled,
    Scored,
)
from headmix_server.core.types import ClassificationParams, EmbeddingParams, SamplingParams, TaskParams, TokenLogprob
from headmix_server.engine.fake_runner import (
    FAKE_LOGPROB,
    FakeAdapter,
    FakeRunner,
    fake_probs,
    fake_token,
    open_fake_adapter,
)

A, C = adapter("a"), adapter("c3")
RANGE = range(1000)
POOLINGS: tuple[Pooling, ...] = ("last", "mean", "cls")

CLASSIFICATION = ClassificationParams()


def row(
    tokens: list[int],
    lease: Lease | None = None,
    *,
    params: TaskParams = CLASSIFICATION,
    start: int = 0,
    count: int | None = None,
) -> BatchRow:
    end = len(tokens) if count is None else start + count
    return BatchRow(
        sequence_id=1,
        start=start,
        count=end - start,
        history=tokens,
        prompt_length=len(tokens),
        blocks=(0,),
        lease=lease,
        samples=end == len(tokens),
        params=params,
    )


def run(runner: FakeRunner, row: BatchRow) -> RowResult:
    (result,) = runner.run(Batch((row,)))
    return result


@pytest.fixture
def runner() -> FakeRunner:
    runner = FakeRunner(RANGE)
    runner.install(0, 1, FakeAdapter(A.digest))
    runner.install(1, 1, FakeAdapter(C.digest, 3))
    return runner


def test_base_and_adapters_never_answer_alike(runner: FakeRunner) -> None:
    params = SamplingParams(max_tokens=1)
    base = run(runner, row([1, 2], params=params)).result
    adapted = run(runner, row([1, 2], Lease(0, 1, 1, A.digest), params=params)).result
    assert base == Sampled(fake_token(None, (1, 2), RANGE))
    assert adapted == Sampled(fake_token(A.digest, (1, 2), RANGE))
    assert base != adapted


def test_tokens_come_from_the_range() -> None:
    assert {fake_token("d", (n,), range(5, 8)) for n in range(100)} == {5, 6, 7}


def test_a_chunk_that_does_not_reach_the_end_gives_no_token(runner: FakeRunner) -> None:
    assert run(runner, row([1, 2, 3], params=SamplingParams(max_tokens=1), count=2)).result is None


def test_a_classification_has_one_probability_a_label(runner: FakeRunner) -> None:
    result = run(runner, row([1, 2], Lease(1, 1, 1, C.digest))).result
    assert result == Scored(fake_probs(C.digest, (1, 2), 3))
    assert isinstance(result, Scored)
    assert sum(result.probs) == pytest.approx(1)


def test_an_embedding_differs_by_adapter_and_pooling_and_is_as_long_as_asked_for(runner: FakeRunner) -> None:
    leases = (None, Lease(0, 1, 1, A.digest))
    params = [EmbeddingParams(pooling=pooling, normalize=True) for pooling in POOLINGS]
    results = [run(runner, row([1, 2], lease, params=p)).result for lease in leases for p in params]
    vectors = {result.vector for result in results if isinstance(result, Pooled)}
    assert len(vectors) == len(results)
    assert [hypot(*vector) for vector in vectors] == pytest.approx([1.0] * len(vectors))
    raw = run(runner, row([1, 2], params=EmbeddingParams(pooling="mean", normalize=False))).result
    assert isinstance(raw, Pooled)
    assert hypot(*raw.vector) > 1


@pytest.mark.parametrize("lease", [Lease(0, 2, 1, A.digest), Lease(5, 1, 1, A.digest)])
def test_a_stale_lease_fails_its_row(runner: FakeRunner, lease: Lease) -> None:
    result = run(runner, row([1], lease, params=SamplingParams(max_tokens=1))).result
    assert isinstance(result, RowFailed)
    assert "no longer holds the adapter" in result.message


def test_a_cleared_slot_fails_its_rows(runner: FakeRunner) -> None:
    runner.clear(0)
    result = run(runner, row([1], Lease(0, 1, 1, A.digest), params=SamplingParams(max_tokens=1))).result
    assert isinstance(result, RowFailed)


def test_logprobs_have_as_many_alternatives_as_asked_for(runner: FakeRunner) -> None:
    for count in (0, 1, 4):
        result = run(runner, row([1], params=SamplingParams(max_tokens=1, logprobs=count))).result
        assert isinstance(result, Sampled)
        assert result.logprob is not None
        assert (result.logprob.token, result.logprob.logprob) == (result.token, FAKE_LOGPROB)
        assert len(result.logprob.top) == count


def test_prompt_logprobs_of_chunks_join_to_those_of_the_whole(runner: FakeRunner) -> None:
    params = SamplingParams(max_tokens=1, prompt_logprobs=True)
    chunks = [run(runner, row([4, 5, 6, 7], params=params, start=at, count=2)) for at in (0, 2)]
    joined = [entry for chunk in chunks for entry in chunk.prompt_logprobs]
    assert joined == [TokenLogprob(token=token, logprob=FAKE_LOGPROB) for token in (5, 6, 7)]


def test_a_missing_file_and_a_file_that_is_not_an_artifact_are_distinguished(tmp_path: Path) -> None:
    path = tmp_path / "adapter.safetensors"
    ref = adapter(str(path))
    with pytest.raises(AdapterLoadError) as gone:
        open_fake_adapter(ref)
    path.write_bytes(b"not a tensor in sight")
    with pytest.raises(AdapterLoadError) as odd:
        open_fake_adapter(ref)
    assert (gone.value.missing, odd.value.missing) == (True, False)


def test_an_adapter_that_was_accepted_for_another_base_is_refused() -> None:
    with pytest.raises(AdapterLoadError, match="accepted for the base b, but this engine has other"):
        FakeRunner(RANGE, base="other", open_adapter=lambda ref: FakeAdapter(ref.digest)).load(A)
    assert FakeRunner(RANGE, base="b", open_adapter=lambda ref: FakeAdapter(ref.digest)).load(A).digest == A.digest
