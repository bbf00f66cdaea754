"""A gauge whose series are replaced all at once: a scrape sees the old or the new ones, and never waits."""

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

Labels = tuple[str, ...]


class SnapshotGauge:
    """Values by their labels. Only one thread may change them at a time; reading needs no lock."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str], *, registry: CollectorRegistry) -> None:
        self.name = name
        self.documentation = documentation
        self.labels = tuple(labels)
        self._values: Mapping[Labels, float] = {}
        registry.register(self)

    def replace(self, values: Mapping[Labels, float]) -> None:
        """Replace all series with these."""
        self._values = dict(values)

    def remove_by_labels(self, labels: Mapping[str, str]) -> None:
        """Remove the series with these labels."""
        wanted = [(self.labels.index(name), value) for name, value in labels.items()]
        kept = {have: value for have, value in self._values.items() if any(have[at] != want for at, want in wanted)}
        self._values = kept

    def collect(self) -> Iterator[Metric]:
        """Yield the gauge in its current state."""
        family = GaugeMetricFamily(self.name, self.documentation, labels=self.labels)
        for labels, value in self._values.items():
            family.add_metric(labels, value)
        yield family
