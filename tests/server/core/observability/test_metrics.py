import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from headmix_server.core.messages import EngineReport, LoadReport, ResidentAdapter, StepReport
from headmix_server.core.observability.metrics import LISTED_NAMES, Metrics
from headmix_server.core.observability.snapshot_gauge import SnapshotGauge
from headmix_server.core.types import Residency

DOCS = Path(__file__).parents[4] / "docs" / "metrics.md"
ONE, TWO, GONE = (f"sha256:{digit * 64}" for digit in "123")
NAMES = {ONE: (("acme", "a"), ("other", "a")), TWO: (("acme", "b"),)}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(series=3, version="1.2.3", base="tiny", clock=lambda: 1700000000.0)


def report(
    *,
    steps: Sequence[StepReport] = (),
    running: Sequence[str] = (),
    waiting: Sequence[str] = (),
) -> EngineReport:
    return EngineReport(
        running=2,
        waiting=1,
        kv_usage=0.25,
        slots_free=1,
        slots_leased=2,
        slots_idle=3,
        slots_loading=4,
        steps=list(steps),
        loads=[LoadReport(source=Residency.DISK, seconds=0.2)],
        hits={Residency.DEVICE: 3},
        misses={Residency.DEVICE: 1},
        evictions={Residency.HOST: 2},
        numerical_errors=3,
        prefix_queries=30,
        prefix_hits=16,
        drafted_tokens=9,
        accepted_tokens=4,
        running_adapters=list(running),
        waiting_adapters=list(waiting),
    )


def residents(*adapters: tuple[str, Residency]) -> list[ResidentAdapter]:
    return [ResidentAdapter(digest=digest, tier=tier) for digest, tier in adapters]


def samples(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    """Return the scraped samples of one name: from label values, in the order of the label names, to the value."""
    text = metrics.render(tenants=True)[0].decode()
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


@pytest.mark.drift
def test_the_documentation_says_of_every_metric_what_the_code_says(metrics: Metrics) -> None:
    items = re.findall(
        r"^\* `([\w:]+)`\s\((\w+)(?:;\s([^)]*))?\):\s(.+?)(?=\n\*|\n\n)", DOCS.read_text(), re.MULTILINE | re.DOTALL
    )
    documented = {
        name: (kind, re.findall(r"`(\w+)`", labels), " ".join(meaning.split())) for name, kind, labels, meaning in items
    }
    defined = {
        metric._name + ("_total" if metric._type == "counter" else ""): (
            metric._type,
            list(metric._labelnames),
            metric._documentation,
        )
        for metric in vars(metrics).values()
        if isinstance(metric, MetricWrapperBase)
    }
    replaced = {
        gauge.name: ("gauge", list(gauge.labels), gauge.documentation)
        for gauge in vars(metrics).values()
        if isinstance(gauge, SnapshotGauge)
    }
    metrics.engine_started(os.getpid())
    told = {
        family.name + ("_total" if family.type == "counter" else ""): (
            family.type,
            list(family.samples[0].labels),
            family.documentation,
        )
        for family in metrics.processes.collect()
    }
    assert documented == defined | replaced | told


def test_nothing_is_shared_between_two_servers_of_one_process(metrics: Metrics) -> None:
    other = Metrics(series=3, version="1.2.3", base="tiny")
    metrics.engine_restarted()
    assert samples(metrics, "headmix_engine_restarts_total") == {(): 1}
    assert samples(other, "headmix_engine_restarts_total") == {(): 0}


def test_a_scrape_is_prometheus_text_without_creation_times(metrics: Metrics) -> None:
    metrics.request_finished("/v1/completions", "acme", "a", "ok", seconds=1.0)
    body, content_type = metrics.render(tenants=True)
    assert content_type.startswith("text/plain; version=0.0.4")
    assert b"_created" not in body
    assert samples(metrics, "headmix_build_info") == {("tiny", "1.2.3"): 1}


def test_a_finished_request_is_counted_with_its_tokens_and_times(metrics: Metrics) -> None:
    metrics.first_token(0.3)
    metrics.inter_token(0.01)
    metrics.request_finished(
        "/v1/completions", "acme", "a", "ok", seconds=1.5, queue_seconds=0.2, prompt_tokens=5, generation_tokens=7
    )
    metrics.request_finished("/v1/completions", "acme", None, "invalid_request_error", seconds=0.5)
    assert samples(metrics, "headmix_requests_total") == {
        ("a", "ok", "/v1/completions", "acme"): 1,
        ("", "invalid_request_error", "/v1/completions", "acme"): 1,
    }
    assert samples(metrics, "headmix_prompt_tokens_total") == {("a", "acme"): 5}
    assert samples(metrics, "headmix_generation_tokens_total") == {("a", "acme"): 7}
    assert samples(metrics, "headmix_e2e_request_latency_seconds_sum") == {(): 2.0}
    assert samples(metrics, "headmix_queue_time_seconds_count") == {(): 1}
    assert samples(metrics, "headmix_time_to_first_token_seconds_sum") == {(): 0.3}
    assert samples(metrics, "headmix_inter_token_latency_seconds_count") == {(): 1}


def test_what_the_engine_reports_is_what_is_scraped(metrics: Metrics) -> None:
    step = StepReport(
        schedule_seconds=0.001, run_seconds=0.02, commit_seconds=0.003, batch_tokens=100, distinct_adapters=4
    )
    metrics.observe_report(report(steps=[step, step]), NAMES)
    assert samples(metrics, "headmix_requests_running") == {(): 2}
    assert samples(metrics, "headmix_requests_waiting") == {(): 1}
    assert samples(metrics, "headmix_kv_cache_usage_ratio") == {(): 0.25}
    assert samples(metrics, "headmix_adapter_slots") == {("free",): 1, ("leased",): 2, ("idle",): 3, ("loading",): 4}
    assert samples(metrics, "headmix_step_seconds_count") == {("schedule",): 2, ("run",): 2, ("commit",): 2}
    assert samples(metrics, "headmix_batch_tokens_sum") == {(): 200}
    assert samples(metrics, "headmix_batch_distinct_adapters_sum") == {(): 8}
    assert samples(metrics, "headmix_adapter_load_seconds_sum") == {("disk",): 0.2}
    assert samples(metrics, "headmix_adapter_hits_total") == {("device",): 3}
    assert samples(metrics, "headmix_adapter_misses_total") == {("device",): 1}
    assert samples(metrics, "headmix_adapter_evictions_total") == {("host",): 2}
    assert samples(metrics, "headmix_numerical_errors_total") == {(): 3}
    assert samples(metrics, "headmix_drafted_tokens_total") == {(): 9}
    assert samples(metrics, "headmix_accepted_tokens_total") == {(): 4}
    assert samples(metrics, "headmix_prefix_cache_queries_total") == {(): 30}
    assert samples(metrics, "headmix_prefix_cache_hits_total") == {(): 16}


def test_a_router_reads_one_current_list_of_adapters(metrics: Metrics) -> None:
    name = "vllm:lora_requests_info"
    metrics.observe_report(report(running=[ONE], waiting=[TWO, GONE]), NAMES)
    assert samples(metrics, name) == {("6", "a", "b"): 1700000000.0}
    metrics.observe_report(report(), NAMES)
    assert samples(metrics, name) == {("6", "", ""): 1700000000.0}
    metrics.engine_lost()
    assert samples(metrics, name) == {}


def test_a_router_never_reads_one_name_in_both_lists(metrics: Metrics) -> None:
    names = {ONE: (("acme", "spam"),), TWO: (("other", "spam"), ("other", "ham"))}
    metrics.observe_report(report(running=[ONE], waiting=[TWO]), names)
    assert samples(metrics, "vllm:lora_requests_info") == {("6", "spam", "ham"): 1700000000.0}


def test_the_lists_for_a_router_are_bounded_and_every_adapter_is_in_them_before_any_has_two_names(
    metrics: Metrics,
) -> None:
    names = {ONE: tuple(("x", f"one-{index}") for index in range(300)), TWO: (("y", "two"), ("y", "two-again"))}
    metrics.observe_report(report(running=[ONE, TWO]), names)
    ((_, running, waiting),) = samples(metrics, "vllm:lora_requests_info")
    listed = running.split(",")
    assert len(listed) == LISTED_NAMES
    assert {"one-0", "two", "two-again"} <= set(listed)
    assert waiting == ""


def test_an_adapter_is_resident_for_everyone_who_names_it_until_it_is_evicted(metrics: Metrics) -> None:
    name = "headmix_adapter_resident"
    metrics.observe_residents(residents((ONE, Residency.DEVICE), (GONE, Residency.HOST)), NAMES)
    assert samples(metrics, name) == {("a", "acme", "device"): 1, ("a", "other", "device"): 1}
    metrics.observe_report(report(), NAMES)
    assert len(samples(metrics, name)) == 2
    metrics.observe_residents(residents((TWO, Residency.HOST)), NAMES)
    assert samples(metrics, name) == {("b", "acme", "host"): 1}


def test_more_adapters_than_series_are_counted_together(metrics: Metrics) -> None:
    for index in range(5):
        metrics.request_finished("/r", f"tenant-{index}", "a", "ok", seconds=1.0, prompt_tokens=1)
    assert samples(metrics, "headmix_prompt_tokens_total") == {
        ("a", "tenant-0"): 1,
        ("a", "tenant-1"): 1,
        ("a", "tenant-2"): 1,
        ("other", "other"): 2,
    }
    many = {ONE: tuple(("x", f"n{index}") for index in range(9))}
    metrics.observe_residents(residents((ONE, Residency.DISK)), many)
    assert samples(metrics, "headmix_adapter_resident") == {("other", "other", "disk"): 9}


def test_a_deleted_adapter_leaves_no_series_and_makes_room(metrics: Metrics) -> None:
    for name in ("a", "b", "c"):
        metrics.request_finished("/r", "acme", name, "ok", seconds=1.0, prompt_tokens=1, generation_tokens=1)
    metrics.observe_residents(residents((ONE, Residency.DEVICE)), {ONE: (("acme", "a"),)})
    metrics.adapter_deleted("acme", "a")
    metrics.adapter_deleted("acme", "never there")
    assert b'adapter="a"' not in metrics.render(tenants=True)[0]
    metrics.request_finished("/r", "acme", "d", "ok", seconds=1.0, prompt_tokens=1)
    assert ("d", "acme") in samples(metrics, "headmix_prompt_tokens_total")


def test_one_tenants_adapters_leave_series_to_others_and_what_was_counted_of_them_goes(metrics: Metrics) -> None:
    for name in ("a", "b", "c", "d"):
        metrics.request_finished("/r", "greedy", name, "ok", seconds=1.0, prompt_tokens=1, generation_tokens=1)
        answered(metrics, "greedy", name, 1)
    metrics.request_finished("/r", "acme", "mine", "ok", seconds=1.0, prompt_tokens=1)
    answered(metrics, "acme", "mine", 1)
    assert samples(metrics, "headmix_prompt_tokens_total") == {
        ("b", "greedy"): 1,
        ("c", "greedy"): 1,
        ("mine", "acme"): 1,
        ("other", "other"): 1,
    }
    assert b'adapter="a"' not in metrics.render(tenants=True)[0]


def test_adapters_on_the_device_are_counted_by_the_names_that_have_series_in_the_end(metrics: Metrics) -> None:
    names = {ONE: tuple(("greedy", f"n{index}") for index in range(5)), TWO: (("acme", "mine"),)}
    metrics.observe_residents(residents((ONE, Residency.DISK), (TWO, Residency.HOST)), names)
    assert samples(metrics, "headmix_adapter_resident") == {
        ("n1", "greedy", "disk"): 1,
        ("n2", "greedy", "disk"): 1,
        ("other", "other", "disk"): 3,
        ("mine", "acme", "host"): 1,
    }


def answered(metrics: Metrics, tenant: str, adapter: str, version: int, outcome: str = "ok") -> None:
    metrics.version_answered(
        tenant, adapter, version, outcome, seconds=1.5, first_token_seconds=0.25, generation_tokens=4
    )


def test_two_versions_that_are_compared_are_counted_apart(metrics: Metrics) -> None:
    for version, outcome in ((1, "ok"), (1, "ok"), (2, "internal_error")):
        answered(metrics, "acme", "a", version, outcome)
    metrics.version_answered("acme", "a", 2, "ok", seconds=0.5, first_token_seconds=None, generation_tokens=0)
    assert samples(metrics, "headmix_adapter_version_requests_total") == {
        ("a", "ok", "acme", "1"): 2,
        ("a", "internal_error", "acme", "2"): 1,
        ("a", "ok", "acme", "2"): 1,
    }
    assert samples(metrics, "headmix_adapter_version_generation_tokens_total") == {
        ("a", "acme", "1"): 8,
        ("a", "acme", "2"): 4,
    }
    assert samples(metrics, "headmix_adapter_version_request_seconds_sum") == {
        ("a", "acme", "1"): 3,
        ("a", "acme", "2"): 2,
    }
    assert samples(metrics, "headmix_adapter_version_first_token_seconds_count") == {
        ("a", "acme", "1"): 2,
        ("a", "acme", "2"): 1,
    }


def test_the_next_comparison_begins_at_nothing_for_everybody_who_uses_the_adapter(metrics: Metrics) -> None:
    for tenant, adapter in (("acme", "a"), ("other", "acme/a"), ("acme", "b")):
        answered(metrics, tenant, adapter, 1)
    metrics.canary_started("acme", "a")
    assert samples(metrics, "headmix_adapter_version_requests_total") == {("b", "ok", "acme", "1"): 1}
    metrics.adapter_deleted("acme", "b")
    assert b"headmix_adapter_version_requests_total{" not in metrics.render(tenants=True)[0]


def test_versions_of_more_adapters_than_series_are_counted_together(metrics: Metrics) -> None:
    for index in range(5):
        answered(metrics, "acme", f"a{index}", 1)
    counted = samples(metrics, "headmix_adapter_version_requests_total")
    assert (len(counted), counted["other", "ok", "other", "1"]) == (4, 2)


def test_a_deleted_adapter_leaves_no_series_of_those_it_was_shared_with(metrics: Metrics) -> None:
    for tenant, adapter in (("acme", "a"), ("other", "acme/a"), ("other", "zoo/a")):
        metrics.request_finished("/r", tenant, adapter, "ok", seconds=1.0, prompt_tokens=1)
    metrics.adapter_deleted("acme", "a")
    assert samples(metrics, "headmix_prompt_tokens_total") == {("zoo/a", "other"): 1}


def test_unauthorized_readers_see_no_name_of_a_tenant_or_adapter(metrics: Metrics) -> None:
    metrics.request_finished("/r", "acme", "a", "ok", seconds=1.0, prompt_tokens=1, generation_tokens=1)
    answered(metrics, "acme", "a", 1)
    metrics.observe_report(report(running=[ONE], waiting=[TWO]), NAMES)
    metrics.observe_residents(residents((ONE, Residency.DEVICE)), NAMES)
    text = metrics.render(tenants=False)[0].decode()
    told = {family.name for family in text_string_to_metric_families(text) if family.samples}
    assert "headmix_e2e_request_latency_seconds" in told
    assert "acme" not in text
    assert not told & {"headmix_requests", "headmix_adapter_resident", "vllm:lora_requests_info"}


def test_a_dead_engine_runs_and_holds_nothing(metrics: Metrics) -> None:
    metrics.observe_report(report(), NAMES)
    metrics.observe_residents(residents((ONE, Residency.DEVICE)), NAMES)
    metrics.engine_lost()
    assert samples(metrics, "headmix_requests_running") == {(): 0}
    assert samples(metrics, "headmix_kv_cache_usage_ratio") == {(): 0}
    assert set(samples(metrics, "headmix_adapter_slots").values()) == {0}
    assert samples(metrics, "headmix_adapter_resident") == {}
    assert samples(metrics, "headmix_adapter_hits_total") == {("device",): 3}
