"""Puts a merged artifact together: checks that the adapters fit each other, and accounts for every rank."""

from collections.abc import Sequence
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from typing import Any

import torch

from headmix_adapters.artifact import ArtifactError, Limits, digest_file
from headmix_adapters.artifact.checks.rules import check_base
from headmix_adapters.artifact.faults import FaultList
from headmix_adapters.config import AdapterConfig, BaseShape, Task
from headmix_adapters.convert.result import Converted
from headmix_adapters.merge.absolute import merged_head, merged_template, merged_tokens
from headmix_adapters.merge.errors import MergeError
from headmix_adapters.merge.join import join, with_one_value_base
from headmix_adapters.merge.options import DENSITY, MergeOptions
from headmix_adapters.merge.pruned import prune
from headmix_adapters.merge.reduce import reduced_terms
from headmix_adapters.merge.stored import stored
from headmix_adapters.merge.terms import Addition, Terms, read_addition


def merge(paths: Sequence[Path], options: MergeOptions) -> Converted:
    """Return the merged artifact of several adapters of one base.

    Raises:
        MergeError: they cannot be merged as asked; the message names the option, field or site.
        ArtifactError: a file is not a valid artifact.
        OSError: a file cannot be read.
    """
    _check(paths, options)
    additions = [read_addition(path, weight) for path, weight in zip(paths, options.weights, strict=True)]
    configs = [addition.artifact.config for addition in additions]
    base = _common_base(paths, configs, allow_mismatch=options.allow_base_mismatch)
    head = merged_head(additions, first=options.first_head)
    task: Task = "generation" if head.classifier is None else "classification"
    template, template_notes = merged_template(configs, task)
    tokens, rows = merged_tokens(additions)
    terms, notes = _merged_terms(paths, additions, options)
    sites, tensors = stored(terms)
    notes = (*notes, *head.notes, *template_notes)
    config = AdapterConfig(
        method="kernel-mix" if any(site.head for site in sites.present().values()) else "lora",
        task=task,
        base=base,
        sites=sites,
        classifier=head.classifier,
        added_tokens=tokens,
        chat_template=template,
        training={"merged": _origin(paths, options), "notes": list(notes)},
        created_by=f"headmix {version('headmix')} merge",
    )
    dtype = torch.float64 if any(_is_double(addition) for addition in additions) else torch.float32
    return Converted(config, tensors | head.tensors | rows, dtype, notes)


def _check(paths: Sequence[Path], options: MergeOptions) -> None:
    if len(paths) < 2:
        raise MergeError("adapters", f"{len(paths)} given; a merge takes at least 2")
    if len(options.weights) != len(paths):
        raise MergeError("weights", f"{len(options.weights)} given for {len(paths)} adapters")
    for path, weight in zip(paths, options.weights, strict=True):
        if not isfinite(weight) or not weight:
            raise MergeError("weights", f"{weight:g} for {path.name} is not a finite number other than 0")
    if options.rank is not None and not 1 <= options.rank <= Limits().max_rank:
        raise MergeError("rank", f"{options.rank} is not between 1 and {Limits().max_rank}")
    if options.method == "join" and options.density is not None:
        raise MergeError("density", "belongs to ties, dare-linear and dare-ties; joining keeps every number")
    if options.density is not None and not 0 < options.density < 1:
        raise MergeError("density", f"{options.density:g} is not between 0 and 1")


def _common_base(paths: Sequence[Path], configs: Sequence[AdapterConfig], *, allow_mismatch: bool) -> BaseShape:
    """Return the base of all adapters, with the size of its MLP if one of them needs it."""
    chosen = next((config for config in configs if config.sites.adapts_mlp()), configs[0])
    for path, config in zip(paths, configs, strict=True):
        faults = FaultList()
        check_base(config, chosen.base, allow_base_mismatch=allow_mismatch, faults=faults)
        try:
            faults.raise_if_any()
        except ArtifactError as error:
            reason = str(error).replace("allow_base_mismatch accepts it", "--allow-base-mismatch accepts it")
            raise MergeError(path.name, f"another base than the others': {reason}") from None
    return chosen.base


def _merged_terms(
    paths: Sequence[Path], additions: Sequence[Addition], options: MergeOptions
) -> tuple[Terms, tuple[str, ...]]:
    additions, notes = with_one_value_base(additions)
    if options.method != "join":
        terms, losses = prune(additions, options.method, options.density or DENSITY, options.seed, options.rank)
        return terms, (*notes, *losses)
    terms = join(additions)
    if options.rank is None:
        _require_ranks(paths, additions, terms)
        return terms, notes
    terms, losses = reduced_terms(terms, options.rank)
    return terms, (*notes, *losses)


def _require_ranks(paths: Sequence[Path], additions: Sequence[Addition], terms: Terms) -> None:
    """Refuse a sum whose rank an artifact cannot have, with the summands."""
    for key, layers in terms.items():
        layer, rank = max(((layer, low.rank) for layer, low in layers.items()), key=lambda item: item[1])
        most = Limits().most_rank(key.site)
        if rank > most:
            ranks = [addition.terms.get(key, {}).get(layer) for addition in additions]
            summands = " and ".join(
                f"{low.rank} of {path.name}" for path, low in zip(paths, ranks, strict=True) if low is not None
            )
            raise MergeError(
                f"{key.name}.rank", f"{rank} ({summands}) is more than {most}; --rank R merges to rank R by SVD"
            )


def _origin(paths: Sequence[Path], options: MergeOptions) -> dict[str, Any]:
    """Return what the header says about the merge."""
    adapters = [
        {"file": path.name, "digest": digest_file(path), "weight": weight}
        for path, weight in zip(paths, options.weights, strict=True)
    ]
    chosen: dict[str, Any] = {"method": options.method, "adapters": adapters}
    if options.rank is not None:
        chosen["rank"] = options.rank
    if options.method != "join":
        chosen |= {"density": options.density or DENSITY, "seed": options.seed}
    return chosen


def _is_double(addition: Addition) -> bool:
    return any(entry.dtype == "F64" for entry in addition.artifact.tensors.values())
