"""Every adapter of the benchmarks is a sound artifact of its own."""

import itertools
from pathlib import Path

import pytest

from harness.adapters.shelf import COPIED, Shelf
from harness.bases.families import FAMILIES
from headmix_adapters.artifact import open_artifact, verify_artifact
from headmix_adapters.base import ResolvedBase, resolve_base


@pytest.fixture
def base(tmp_path: Path) -> ResolvedBase:
    FAMILIES["llama"].make(tmp_path / "base")
    return resolve_base(str(tmp_path / "base"))


def test_adapters_are_distinct_and_sound_also_where_they_are_copies(base: ResolvedBase, tmp_path: Path) -> None:
    shelf = Shelf(base, tmp_path / "shelf")
    numbers = (0, 1, COPIED, COPIED + 1, 2 * COPIED, 1000, 2**14 + COPIED)
    refs = [shelf.preset(1, number)[0] for number in numbers]
    assert len({ref.digest for ref in refs}) == len(numbers)
    for ref in refs:
        verify_artifact(Path(ref.path), base=base.shape)
    assert shelf.preset(2) == refs[:2]


def test_mixed_adapters_have_different_ranks_and_classifiers_different_numbers_of_labels(
    base: ResolvedBase, tmp_path: Path
) -> None:
    shelf = Shelf(base, tmp_path / "shelf")
    sites = [open_artifact(Path(ref.path)).config.sites for ref in shelf.mixed(4)]
    assert all(one != other for one, other in itertools.pairwise(sites))
    heads = [open_artifact(Path(ref.path)).config.classifier for ref in shelf.classifiers(3)]
    assert [len(head.labels) for head in heads if head is not None] == [2, 3, 4]
