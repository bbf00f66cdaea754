"""A gauge that is never scraped half updated."""

from prometheus_client import CollectorRegistry, generate_latest

from headmix_server.core.observability.snapshot_gauge import SnapshotGauge


def lines(registry: CollectorRegistry) -> list[str]:
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]


def test_its_series_are_replaced_all_at_once() -> None:
    registry = CollectorRegistry()
    gauge = SnapshotGauge("g", "About.", ["tenant", "tier"], registry=registry)
    assert lines(registry) == []
    gauge.replace({("a", "device"): 1, ("b", "disk"): 2})
    seen = gauge.collect()  # a scrape that begins now
    family = next(seen)
    gauge.replace({("c", "disk"): 3})
    assert [sample.labels["tenant"] for sample in family.samples] == ["a", "b"]
    assert lines(registry) == ['g{tenant="c",tier="disk"} 3.0']


def test_series_go_by_some_of_their_labels() -> None:
    registry = CollectorRegistry()
    gauge = SnapshotGauge("g", "About.", ["tenant", "adapter", "tier"], registry=registry)
    gauge.replace({("a", "x", "device"): 1, ("a", "x", "disk"): 1, ("a", "y", "disk"): 1, ("b", "x", "disk"): 1})
    gauge.remove_by_labels({"tenant": "a", "adapter": "x"})
    assert lines(registry) == [
        'g{adapter="y",tenant="a",tier="disk"} 1.0',
        'g{adapter="x",tenant="b",tier="disk"} 1.0',
    ]
