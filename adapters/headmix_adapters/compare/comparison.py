"""What is compared of adapters, and what to know before believing it. Knows no terminal."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TypeGuard

import msgspec
import numpy as np

from headmix_adapters.artifact import Artifact, digest_file
from headmix_adapters.config import SiteConfig
from headmix_adapters.headmap.head_map import HeadMap
from headmix_adapters.train.held_out_record import scored_on, table_in


class Compared(msgspec.Struct, frozen=True):
    """One adapter. `scores` are the held-out scores in its header, `held_out` identifies the data they are on.

    `held_out` is None if the header does not say; `head_map` is None if the base was not found.
    """

    name: str
    path: str
    digest: str
    method: str
    task: str
    base: str
    fingerprint: str
    layers: tuple[int, ...]
    sites: dict[str, SiteConfig]
    parameters: int
    bytes: int
    scores: dict[str, float]
    held_out: str | None
    head_map: HeadMap | None = None


class Comparison(msgspec.Struct, frozen=True):
    """Adapters next to each other.

    `correlation` says how alike the head maps of two adapters are, by site: 1 if the same heads are changed, 0 if
    there is no relation. `notes` are remarks on what cannot be compared.
    """

    adapters: list[Compared]
    correlation: dict[str, float]
    notes: list[str]


def compared(artifact: Artifact, name: str, head_map: HeadMap | None) -> Compared:
    """Return what is compared of an artifact."""
    config, training = artifact.config, artifact.config.training
    scores = table_in(training, "metrics", "adapter")
    return Compared(
        name=name,
        path=str(artifact.path),
        digest=digest_file(artifact.path),
        method=config.method,
        task=config.task,
        base=config.base.name,
        fingerprint=config.base.fingerprint,
        layers=artifact.layers,
        sites=config.sites.present(),
        parameters=artifact.num_parameters,
        bytes=artifact.size_bytes,
        scores={key: float(value) for key, value in scores.items() if _is_number(value)},
        held_out=scored_on(training),
        head_map=head_map,
    )


def compare(adapters: Sequence[Compared], notes: Sequence[str] = ()) -> Comparison:
    """Put adapters next to each other."""
    remarks = list(notes)
    scored = [one for one in adapters if one.scores]
    if len({one.held_out for one in scored if one.held_out is not None}) > 1:
        remarks.append("the scores are on different held-out data: they cannot be compared")
    if unknown := [one.name for one in scored if one.held_out is None]:
        remarks.append(
            f"the header of {', '.join(unknown)} does not say which held-out data its scores are on: "
            "it is unknown whether they can be compared"
        )
    if unscored := [one.name for one in adapters if not one.scores]:
        remarks.append(f"no scores in the header of {', '.join(unscored)}")
    if len({one.fingerprint for one in adapters}) > 1:
        remarks.append("the adapters belong to different bases")
    maps = [one.head_map for one in adapters if one.head_map is not None]
    alike = correlation(*maps) if len(maps) == len(adapters) == 2 else {}
    return Comparison(list(adapters), alike, remarks)


def correlation(one: HeadMap, other: HeadMap) -> dict[str, float]:
    """Return the correlation of two maps' shares, by site, over the layers that both adapt.

    A site is left out if the maps have other heads there, or if all heads of a map are changed equally.
    """
    shared = sorted(set(one.layers) & set(other.layers))
    found = {}
    for site in one.sites.keys() & other.sites.keys():
        rows = [
            np.array([head_map.sites[site].relative[head_map.layers.index(layer)] for layer in shared])
            for head_map in (one, other)
        ]
        if rows[0].shape == rows[1].shape and all(row.size > 1 and row.std() > 0 for row in rows):
            found[site] = float(np.corrcoef(rows[0].ravel(), rows[1].ravel())[0, 1])
    return {site: found[site] for site in one.sites if site in found}


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """Return a name for each file: its own, with as many of its folders as tell it from the others."""
    names = [path.stem for path in paths]
    if any(one == other for one, other in combinations(names, 2)):
        return [str(path.with_suffix("")) for path in paths]
    return names


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
