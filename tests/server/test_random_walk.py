"""A seeded random walk over everything tenants do: every answer is its adapter's own, and nothing stays held.

The second half breaks the server on purpose, one thing at a time, and expects the walk to notice.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch
from msgspec import structs
from structlog.testing import capture_logs

from harness.bases.families import FAMILIES
from harness.memory import slope_per_hour
from harness.soak.environment import Environment, Sizes
from harness.soak.http.walk import HttpWalk, served
from harness.soak.oracle import Oracle
from harness.soak.request_generator import with_seed
from harness.soak.walk import Report, Walk, WalkFailedError
from headmix_adapters.base import resolve_base
from headmix_server.catalog.catalog import Catalog
from headmix_server.core.runner import Batch, HostAdapter, RowResult, Runner
from headmix_server.core.types import AdapterRef, ClassificationParams, SamplingParams
from headmix_server.device.adapters.adapter_files import LoadedAdapter
from headmix_server.device.outputs import ReadOut
from headmix_server.engine.cache.block_keys import KeyMaker
from headmix_server.engine.cache.kv_cache import KVCache
from headmix_server.engine.loop import Engine
from headmix_server.engine.residency.slots import SlotTable

pytestmark = pytest.mark.slow

SEED = 20261123
SIZES = Sizes()


@contextmanager
def walking(
    folder: Path,
    family: str = "llama",
    wrap: Callable[[Runner], Runner] = lambda runner: runner,
    sizes: Sizes = SIZES,
) -> Iterator[tuple[Environment, Oracle]]:
    torch.set_num_threads(1)
    FAMILIES[family].make(folder / "base")
    base = resolve_base(str(folder / "base"))
    environment = Environment(base, folder, sizes, wrap)
    try:
        with capture_logs():
            yield environment, Oracle(base.folder, environment.limits.eos_ids)
    finally:
        environment.close()


def test_two_thousand_operations_are_answered_right_and_leave_nothing_behind(tmp_path: Path) -> None:
    with walking(tmp_path) as (environment, oracle):
        report = Walk(SEED, environment, oracle, rest_after=700).run(lambda done: done < 2100)
    assert report.operations.total() == 2100
    assert oracle.tally.judged > 500
    assert oracle.tally.forgiven <= 2
    assert_every_corner_was_reached(report)
    assert report.objects[-1] == report.objects[0], report.objects[-1] - report.objects[0]


def assert_every_corner_was_reached(report: Report) -> None:
    assert min(report.operations.values()) > 0
    assert len(report.operations) == 13
    assert report.cancelled > 20
    assert report.preemptions > 5
    assert report.prefix_hits > 300
    assert report.accepted_tokens > 100
    assert min(report.evictions["device"], report.evictions["host"]) > 20


def test_sliding_windows_and_tied_added_tokens_change_nothing(tmp_path: Path) -> None:
    with walking(tmp_path, "gemma3_text") as (environment, oracle):
        Walk(SEED, environment, oracle).run(lambda done: done < 300)
    assert oracle.tally.judged > 60


def test_without_speculation_everything_is_answered_right_too(tmp_path: Path) -> None:
    with walking(tmp_path, sizes=Sizes(speculative_tokens=0)) as (environment, oracle):
        report = Walk(SEED, environment, oracle).run(lambda done: done < 300)
    assert oracle.tally.judged > 60
    assert report.accepted_tokens == 0


def test_a_seed_always_walks_the_same_way(tmp_path: Path) -> None:
    said = []
    for number in range(2):
        with walking(tmp_path / str(number)) as (environment, oracle):
            report = Walk(7, environment, oracle).run(lambda done: done < 120)
        said.append((report.operations, report.requests, report.evictions, oracle.tally.judged, oracle.tally.tokens))
    assert said[0] == said[1]


async def test_over_http_clients_side_by_side_get_their_own_adapters_answers(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    with served(tmp_path, SEED) as environment:
        report = await HttpWalk(environment).run(lambda done: done < 200)
        assert environment.server.stop() == 0
    assert report.refused == 0
    assert environment.oracle.tally.judged > 100


# --- the walk notices --------------------------------------------------------------------------------------------


class Broken:
    """A wrapper around a runner; what is not defined here is delegated."""

    def __init__(self, runner: Runner) -> None:
        self.inner = runner
        self.rows_seen = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)


class WrongSlot(Broken):
    """If two adapters run together, each runs in the other's slot."""

    def run(self, batch: Batch) -> list[RowResult]:
        leased = [row for row in batch.rows if row.lease is not None]
        others = {row.lease.slot: row.lease for row in leased if row.lease is not None}
        if len(others) < 2:
            return self.inner.run(batch)
        first, second, *_ = others
        swap = {first: others[second], second: others[first]}
        rows = tuple(
            row if row.lease is None else structs.replace(row, lease=swap.get(row.lease.slot, row.lease))
            for row in batch.rows
        )
        return self.inner.run(Batch(rows))


class SilentBase(Broken):
    """The first row of every step runs without its adapter."""

    def run(self, batch: Batch) -> list[RowResult]:
        first, *others = batch.rows
        generates = not isinstance(first.params, ClassificationParams)
        return self.inner.run(Batch((structs.replace(first, lease=None) if generates else first, *others)))


class OtherTensors(Broken):
    """Every adapter is loaded from the file of the first."""

    first: AdapterRef | None = None

    def load(self, ref: AdapterRef) -> HostAdapter:
        self.first = self.first or ref
        adapter = self.inner.load(self.first)
        assert isinstance(adapter, LoadedAdapter)
        return replace(adapter, digest=ref.digest)


class SharedBlocks(Broken):
    """Two sequences write to the same position in the cache."""

    def run(self, batch: Batch) -> list[RowResult]:
        if len(batch.rows) < 2:
            return self.inner.run(batch)
        blocks = (batch.rows[1].blocks[0], *batch.rows[0].blocks[1:])
        return self.inner.run(Batch((structs.replace(batch.rows[0], blocks=blocks), *batch.rows[1:])))


class OtherSeed(Broken):
    """Sampling depends on what ran before."""

    def run(self, batch: Batch) -> list[RowResult]:
        self.rows_seen += len(batch.rows)
        rows = tuple(
            structs.replace(row, params=with_seed(row.params, self.rows_seen))
            if isinstance(row.params, SamplingParams)
            else row
            for row in batch.rows
        )
        return self.inner.run(Batch(rows))


@pytest.mark.parametrize("fault", [WrongSlot, SilentBase, OtherTensors, SharedBlocks, OtherSeed])
def test_a_runner_that_computes_with_what_is_not_the_rows_own_is_noticed(tmp_path: Path, fault: type[Broken]) -> None:
    with (
        walking(tmp_path, wrap=lambda runner: cast("Runner", fault(runner))) as (environment, oracle),
        pytest.raises(WalkFailedError) as caught,
    ):
        Walk(SEED, environment, oracle).run(lambda done: done < 400)
    assert f"seed {SEED}" in str(caught.value)
    assert "last operations:" in str(caught.value)


def keep_every_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SlotTable, "release", lambda *_: None)


def keep_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KVCache, "free", lambda *_: None)


def share_prefixes_between_adapters(monkeypatch: pytest.MonkeyPatch) -> None:
    keys_of = KeyMaker.keys_of
    monkeypatch.setattr(KeyMaker, "keys_of", lambda maker, tenant, _: keys_of(maker, tenant, None))


def answer_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    step = Engine.step
    monkeypatch.setattr(Engine, "step", lambda engine: [o for output in step(engine) for o in (output, output)])


def answer_the_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "abort", lambda *_: None)


def resolve_the_first_version(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = Catalog.resolve
    monkeypatch.setattr(Catalog, "resolve", lambda *args: resolve(args[0], args[1], f"{args[2].split('@')[0]}@1"))


def free_what_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Catalog, "refers_to", lambda *_: False)


@pytest.mark.parametrize(
    "break_it",
    [
        keep_every_lease,
        keep_blocks,
        share_prefixes_between_adapters,
        answer_twice,
        answer_the_gone,
        resolve_the_first_version,
        free_what_is_in_use,
    ],
)
def test_broken_accounts_and_names_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, break_it: Callable[[pytest.MonkeyPatch], None]
) -> None:
    break_it(monkeypatch)
    with walking(tmp_path) as (environment, oracle), pytest.raises(WalkFailedError):
        Walk(SEED, environment, oracle).run(lambda done: done < 400)


def test_a_leak_shows_in_the_objects_counted_at_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    monkeypatch.setattr(ReadOut, "release", lambda _, number: kept.append(torch.ones(number)))
    with walking(tmp_path) as (environment, oracle):
        report = Walk(SEED, environment, oracle, rest_after=60).run(lambda done: done < 120)
    assert report.objects[-1] != report.objects[0]


def test_memory_s_slope_is_that_of_the_line() -> None:
    assert slope_per_hour([(0, 100), (1800, 101), (3600, 102)]) == pytest.approx(2)
    assert slope_per_hour([(5, 100)]) == 0
