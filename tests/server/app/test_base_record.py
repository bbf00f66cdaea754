import json
from pathlib import Path

import pytest

from headmix_adapters.base import ResolvedBase
from headmix_server.app.base_record import bind_base
from headmix_server.app.errors import StartError
from headmix_server.catalog.catalog import Catalog
from headmix_server.core.database import open_database
from tests.support.artifacts import tiny_base_shape
from tests.support.records import record_of


def base(name: str = "tiny", fingerprint: str = "sha256:1") -> ResolvedBase:
    return ResolvedBase(name=name, folder=Path(), shape=tiny_base_shape(name=name, fingerprint=fingerprint))


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(open_database(tmp_path / "headmix.db"))


def test_adapters_are_never_served_on_a_base_they_were_not_accepted_for(catalog: Catalog, tmp_path: Path) -> None:
    bind_base(tmp_path / "base.json", base(), catalog)
    catalog.publish("default", "tone", record_of(b"tone"))
    bind_base(tmp_path / "base.json", base(name="the-same-under-another-name"), catalog)
    with pytest.raises(StartError, match="accepted for another base"):
        bind_base(tmp_path / "base.json", base(fingerprint="sha256:2"), catalog)
    bind_base(tmp_path / "base.json", base(), catalog)


def test_a_folder_without_adapters_takes_any_base(catalog: Catalog, tmp_path: Path) -> None:
    bind_base(tmp_path / "base.json", base(), catalog)
    catalog.publish("default", "tone", record_of(b"tone"))
    catalog.delete("default", "tone")
    bind_base(tmp_path / "base.json", base("other", "sha256:2"), catalog)
    assert json.loads((tmp_path / "base.json").read_text()) == {"name": "other", "fingerprint": "sha256:2"}


def test_a_base_never_answers_in_the_place_of_an_adapter_of_its_name(catalog: Catalog, tmp_path: Path) -> None:
    catalog.publish("default", "tone", record_of(b"tone"))
    with pytest.raises(StartError, match="has the name of the base"):
        bind_base(tmp_path / "base.json", base(name="tone"), catalog)


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_record_that_says_nothing_is_not_taken_for_none(catalog: Catalog, tmp_path: Path, content: str) -> None:
    (tmp_path / "base.json").write_text(content)
    with pytest.raises(StartError, match=r"base\.json"):
        bind_base(tmp_path / "base.json", base(), catalog)
