"""A batch's models: each name means one version, held until the batch ends, or none."""

from pathlib import Path
from typing import Any

import pytest

from harness.adapters.records import digest_of
from headmix_server.batches.held_models import NONE, HeldModels
from headmix_server.catalog.library import Library
from headmix_server.core.errors import ModelNotFound, StorageUnavailable
from tests.support.storage.crash import NEW, OLD, open_library, publish


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return open_library(tmp_path)


@pytest.fixture
def models(library: Library) -> HeldModels:
    return HeldModels(library, "acme", "batch_1")


def number_of(models: HeldModels, name: str) -> int | None:
    version = models.version_of(name)
    return None if version is None else version.version


def test_a_name_means_the_version_that_it_first_meant(library: Library, models: HeldModels) -> None:
    publish(library, OLD)
    found = models.hold({"a": None, "nobody": None})
    assert found == {"a": "a@1", "nobody": NONE}
    publish(library, NEW)
    later = HeldModels(library, "acme", "batch_1")
    for held in (models, later):
        assert held.hold(found) == found
        assert number_of(held, "a") == 1
        with pytest.raises(ModelNotFound, match="'nobody'"):
            held.version_of("nobody")


def test_a_version_that_is_gone_has_no_substitute(library: Library, models: HeldModels) -> None:
    publish(library, OLD)
    publish(library, NEW)
    library.delete_model("acme", "a", 2)
    assert models.hold({"a": "a@2"}) == {"a": "a@2"}
    with pytest.raises(ModelNotFound, match="'a@2'"):
        models.version_of("a")


def test_a_name_that_was_not_resolved_is_left_to_its_line(models: HeldModels) -> None:
    models.hold({})
    assert models.version_of("a") is None


def test_a_try_that_fails_midway_and_its_repetition_hold_each_version_once(
    library: Library, models: HeldModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(library, OLD)
    real = library.hold

    def hold(tenant: str, model: str, **more: Any) -> Any:
        if model == "b":
            raise StorageUnavailable("away")
        return real(tenant, model, **more)

    with monkeypatch.context() as patched:
        patched.setattr(library, "hold", hold)
        for _ in range(2):
            with pytest.raises(StorageUnavailable):
                models.hold({"a": None, "b": None})
    publish(library, NEW)
    assert models.hold({"a": None, "b": None}) == {"a": "a@1", "b": NONE}
    assert library.holds.digests == {digest_of(OLD)}
    models.release()
    assert library.holds.digests == set()


def test_a_hold_that_comes_after_the_end_is_released_at_once(library: Library, models: HeldModels) -> None:
    publish(library, OLD)
    models.release()
    models.hold({"a": None})
    assert library.holds.digests == set()
