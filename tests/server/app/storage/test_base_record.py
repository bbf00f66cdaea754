import json
from pathlib import Path

import pytest
from sqlalchemy import Engine, update

from harness.adapters.artifacts import tiny_base_shape
from harness.adapters.records import record_of
from headmix_adapters.base import ResolvedBase
from headmix_server.app.errors import StartError
from headmix_server.app.storage.base_record import bind_base
from headmix_server.catalog.catalog import Catalog
from headmix_server.catalog.tables import IdentityRow
from headmix_server.database import open_database, writing


def base(name: str = "tiny", fingerprint: str = "f") -> ResolvedBase:
    return ResolvedBase(name=name, folder=Path(), shape=tiny_base_shape(name=name, fingerprint=fingerprint))


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return open_database(tmp_path / "headmix.db")


@pytest.fixture
def catalog(engine: Engine) -> Catalog:
    return Catalog(engine)


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "base.json"


def test_another_base_is_refused_in_a_sentence_that_names_both_and_what_to_do(catalog: Catalog, record: Path) -> None:
    bind_base(record, base(), catalog)
    catalog.publish("default", "tone", record_of(b"tone"))
    with pytest.raises(StartError) as caught:
        bind_base(record, base("minilm", "m"), catalog)
    assert str(caught.value) == (
        "the catalog belongs to the base tiny (f), and minilm (m) was given: start with the base it belongs to, "
        "or with another database and data folder"
    )
    assert not record.exists()


def test_what_an_earlier_version_recorded_decides_once_and_is_removed(
    engine: Engine, catalog: Catalog, record: Path
) -> None:
    catalog.publish("default", "tone", record_of(b"tone"))
    with writing(engine) as session:
        session.execute(update(IdentityRow).values(base=None, base_name=None))
    record.write_text(json.dumps({"name": "quantised", "fingerprint": "q"}))
    fits = {name: getattr(record_of(b"tone").config.base, name) for name in BASE_FIELDS}
    quantised = ResolvedBase("quantised", Path(), tiny_base_shape(**(fits | {"name": "quantised", "fingerprint": "q"})))
    with pytest.raises(StartError, match=r"belongs to the base quantised \(q\), and tiny \(f\) was given"):
        bind_base(record, ResolvedBase("tiny", Path(), tiny_base_shape(**fits)), catalog)
    assert record.exists()
    bind_base(record, quantised, catalog)
    assert not record.exists()
    assert catalog.resolve("default", "tone").accepted_for == "q"


BASE_FIELDS = record_of(b"").config.base.__struct_fields__


def test_a_base_is_refused_if_an_adapter_has_its_name(catalog: Catalog, record: Path) -> None:
    catalog.publish("default", "tone", record_of(b"tone"))
    with pytest.raises(StartError, match="has the name of the base"):
        bind_base(record, base(name="tone"), catalog)


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_malformed_record_does_not_count_as_missing(catalog: Catalog, record: Path, content: str) -> None:
    record.write_text(content)
    with pytest.raises(StartError, match=r"base\.json"):
        bind_base(record, base(), catalog)
