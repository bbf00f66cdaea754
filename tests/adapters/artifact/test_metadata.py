"""The free-form metadata must be small, shallow and printable, or the artifact is neither written nor accepted."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.adapters.artifacts import (
    adapter_config,
    classifier_config,
    nested,
    random_artifact,
    random_tensors,
    tiny_base_shape,
    with_description,
)
from headmix_adapters.artifact import ArtifactError, Limits, open_artifact, verify_artifact
from headmix_adapters.artifact.edit import with_examples
from headmix_adapters.artifact.header import LENGTH_BYTES
from headmix_adapters.artifact.metadata import training_fault
from headmix_adapters.artifact.parse import read_stored
from headmix_adapters.artifact.write import write_artifact
from headmix_adapters.config import decode_config, decode_for_tensors, encode_config, without_metadata

BASE = tiny_base_shape()
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "deep": ({"training": nested(17)}, "training: nested more than 16 deep"),
    "deep beyond any reader": ({"training": nested(300)}, "training: nested more than 16 deep"),
    "large": ({"training": {"a": "x" * 65536}}, "training: 65544 bytes of JSON, more than the limit of 65536"),
    "many": ({"training": {"a": [[]] * 40000}}, "training: 120007 bytes of JSON"),
    "a control character": ({"training": {"a": ["\x1b[2J"]}}, "training: .*2J holds control characters"),
    "one in a key": ({"training": {"\u202e": 1}}, "training: .* holds control characters"),
    "created_by": ({"created_by": "x" * 257}, "created_by: longer than 256 characters"),
    "the base's name": ({"base": {"name": "x" * 5000}}, "base.name: longer than 256 characters"),
    "the base's type": ({"base": {"model_type": "\n"}}, "base.model_type: .* holds control characters"),
}


@pytest.mark.parametrize(("changes", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_metadata_out_of_bounds_is_neither_accepted_nor_written(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    random_artifact(tmp_path / "good", BASE)
    bad = tmp_path / "bad"
    bad.write_bytes(with_description((tmp_path / "good").read_bytes(), changes))
    with pytest.raises(ArtifactError, match=reason):
        verify_artifact(bad, base=None)
    config = adapter_config(BASE)
    base = msgspec.structs.replace(config.base, **changes.get("base", {}))
    config = msgspec.structs.replace(config, **(changes | {"base": base}))
    with pytest.raises(ArtifactError, match=reason):
        write_artifact(tmp_path / "out", config, random_tensors(config))
    assert not (tmp_path / "out").exists()


def test_metadata_within_the_bounds_is_kept_as_it_is(tmp_path: Path) -> None:
    training = {"deep": nested(15), "text": "two\nlines\tand ü", "empty": {}, "number": 1.5}
    random_artifact(tmp_path / "a", BASE, training=training, created_by="x" * 256)
    assert verify_artifact(tmp_path / "a", base=BASE).config.training == training


def test_a_description_beyond_its_bytes_is_refused_unread(tmp_path: Path) -> None:
    random_artifact(tmp_path / "good", BASE)
    (tmp_path / "bad").write_bytes(with_description((tmp_path / "good").read_bytes(), {"training": {"a": "x" * 2**20}}))
    with pytest.raises(ArtifactError, match=r"the headmix metadata is \d+ bytes long, more than the limit of 1048576"):
        open_artifact(tmp_path / "bad")


def test_labels_and_added_tokens_are_bounded_in_all(tmp_path: Path) -> None:
    words = tuple(f"{number:0256}" for number in range(513))
    random_artifact(tmp_path / "a", BASE, classifier=classifier_config(*words[:512]))
    verify_artifact(tmp_path / "a", base=BASE)
    random_artifact(tmp_path / "b", BASE, classifier=classifier_config(*words))
    with pytest.raises(
        ArtifactError, match=r"classifier.labels: 131328 characters in all, more than the limit of 131072"
    ):
        verify_artifact(tmp_path / "b", base=BASE)


def test_an_edit_does_not_carry_what_would_be_refused(tmp_path: Path) -> None:
    random_artifact(tmp_path / "good", BASE)
    (tmp_path / "bad").write_bytes(with_description((tmp_path / "good").read_bytes(), {"training": nested(40)}))
    with pytest.raises(ArtifactError, match="training: nested more than 16 deep"):
        with_examples(tmp_path / "bad", tmp_path / "out", ())


def test_limits_are_the_callers() -> None:
    assert training_fault({"a": "x" * 100}, Limits(max_metadata_bytes=50)) is not None
    assert training_fault(nested(3), Limits(max_metadata_depth=2)) is not None
    assert training_fault(nested(3), Limits(max_metadata_depth=3)) is None


@pytest.mark.parametrize("depth", [0, 100, 255, 900])
def test_what_was_stored_before_there_were_bounds_is_served_without_reading_it(tmp_path: Path, depth: int) -> None:
    random_artifact(tmp_path / "good", BASE, classifier=classifier_config(), created_by="me")
    old = with_description(
        (tmp_path / "good").read_bytes(), {"training": nested(depth) if depth else {"a": "x" * 2**21}}
    )
    stored = read_stored(bytearray(old))
    assert stored.config == without_metadata(open_artifact(tmp_path / "good").config)
    length = int.from_bytes(old[:LENGTH_BYTES], "little")
    text = json.loads(old[LENGTH_BYTES : LENGTH_BYTES + length])["__metadata__"]["headmix"]
    assert decode_for_tensors(text) == without_metadata(decode_config(encode_config(stored.config)))
