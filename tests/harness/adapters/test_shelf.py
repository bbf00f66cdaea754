"""Every adapter in the benchmarks is a valid, distinct artifact."""

import itertools
import json
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


def test_a_copied_classifier_is_sound_and_has_the_labels_of_its_original(base: ResolvedBase, tmp_path: Path) -> None:
    refs = Shelf(base, tmp_path / "shelf").classifiers(COPIED + 2)
    assert len({ref.digest for ref in refs}) == COPIED + 2
    verify_artifact(Path(refs[-1].path), base=base.shape)
    copy, original = (open_artifact(Path(ref.path)).config.classifier for ref in (refs[-1], refs[1]))
    assert copy == original


def test_a_lora_is_of_rank_16_on_attention_without_a_bias_for_every_server(base: ResolvedBase, tmp_path: Path) -> None:
    shelf = Shelf(base, tmp_path / "shelf")
    one, other = shelf.loras(2)
    assert one.digest != other.digest
    config = json.loads((shelf.as_lora(one) / "adapter_config.json").read_text())
    assert config["r"] == 16
    assert {name.split(".")[-1] for name in config["target_modules"]} == {"k_proj", "o_proj", "q_proj", "v_proj"}
    assert not config.get("lora_bias", False)
