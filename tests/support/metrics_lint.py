"""The rules of `promtool check metrics`, and promtool itself if it is installed."""

import re
import shutil
import subprocess
from collections.abc import Collection, Iterable, Iterator, Sequence

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

TYPES = ("counter", "gauge", "histogram", "summary", "untyped", "info", "stateset")
ABBREVIATED = ("s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d")
NOT_BASE_UNITS = (
    *("milliseconds", "microseconds", "nanoseconds", "minutes", "hours", "days", "weeks"),
    *("bits", "kibibytes", "mebibytes", "gibibytes", "kilobytes", "megabytes", "gigabytes", "percent", "fahrenheit"),
)


def complaints(text: str) -> list[str]:
    """Return what promtool's rules find in a metrics page: one line each, with the metric's name."""
    return [
        f"{name} {fault}"
        for family in text_string_to_metric_families(text)
        for name in [family.name + ("_total" if family.type == "counter" else "")]
        for fault in _faults(name, family)
    ]


def _faults(name: str, family: Metric) -> Iterator[str]:
    labels = {label for sample in family.samples for label in sample.labels}
    if not family.documentation:
        yield "no help text"
    yield from _faults_of_type(name.split("_"), labels, family)
    yield from _faults_of_name(name, labels)
    series = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in family.samples]
    if len(series) != len(set(series)):
        yield "has a series twice"


def _faults_of_type(words: Sequence[str], labels: Collection[str], family: Metric) -> Iterator[str]:
    if family.type not in ("counter", "histogram", "summary"):
        for suffix in ("total", "bucket", "count", "sum"):
            if words[-1] == suffix:
                yield f'must not have "_{suffix}" suffix'
    for label, kind in (("le", "histogram"), ("quantile", "summary")):
        if label in labels and family.type != kind:
            yield f'must not have "{label}" label'


def _faults_of_name(name: str, labels: Iterable[str]) -> Iterator[str]:
    if ":" in name:
        yield "metric names should not contain ':'"
    for text in (name, *labels):
        if re.search("[a-z][A-Z]", text):
            yield f'{text} should be written in "snake_case"'
    for word in name.split("_"):
        if word in TYPES and word != "info":
            yield f"metric name should not include type '{word}'"
        if word in ABBREVIATED:
            yield f"metric names should not contain abbreviated units: {word}"
        if word in NOT_BASE_UNITS:
            yield f"use the base unit instead of {word}"


def promtool_says(text: str) -> list[str] | None:
    """Return the lines of `promtool check metrics`, or None if it is not installed."""
    program = shutil.which("promtool")
    if program is None:
        return None
    done = subprocess.run([program, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
