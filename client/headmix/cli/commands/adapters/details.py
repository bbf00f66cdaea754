"""Owns what `headmix adapters show` prints about a version."""

import json
from collections.abc import Iterator, Sequence

from headmix.cli.output import moment, print_fields, reference, size
from headmix.types.adapter import Adapter

MAX_WORDS = 20


def print_details(adapter: Adapter) -> None:
    """Print the fields that people ask for; `--json` has the rest."""
    print_fields(_fields(adapter))


def _fields(adapter: Adapter) -> Iterator[tuple[str, object]]:
    canary = adapter.canary
    yield "adapter", reference(adapter)
    yield "owner", adapter.owner
    yield "digest", adapter.digest
    yield "state", "current" if adapter.current else adapter.state
    yield "canary", None if canary is None else f"{adapter.name}@{canary.version} gets {canary.percent} % of requests"
    yield "pinned", "yes" if adapter.pinned else "no"
    yield "resident", adapter.resident
    yield "task, method", f"{adapter.task}, {adapter.method}"
    yield "base", adapter.base
    yield "labels", _some(adapter.labels or ())
    yield "added tokens", _some(adapter.added_tokens)
    yield "sites", ", ".join(adapter.sites or ()) or None
    yield "parameters", f"{adapter.num_parameters:,}"
    yield "size", size(adapter.size_bytes)
    yield "created", f"{moment(adapter.created)} UTC"
    if adapter.chat_template:
        yield "chat template", f"its own, {size(len(adapter.chat_template.encode()))} (--json shows it)"
    if metrics := (adapter.training or {}).get("metrics"):
        yield "metrics", json.dumps(metrics)
    for example in adapter.examples:
        yield "example", f"{example.prompt}\n-> {example.expect}" if example.expect else example.prompt


def _some(words: Sequence[str]) -> str | None:
    hidden = len(words) - MAX_WORDS
    shown = ", ".join(words[:MAX_WORDS])
    return (f"{shown} and {hidden} more" if hidden > 0 else shown) or None
