"""A catalog written in one go has the adapters that uploads would have left."""

from pathlib import Path

from harness.adapters.shelf import Shelf
from harness.bases.families import FAMILIES
from harness.server.large_catalog import TENANT, fill_with
from headmix_adapters.base import resolve_base
from headmix_server.catalog.bytes.store import ArtifactStore
from headmix_server.catalog.catalog import Catalog
from headmix_server.catalog.library import Library
from headmix_server.database import open_database


def test_each_adapter_is_found_by_its_name_with_its_own_bytes(tmp_path: Path) -> None:
    FAMILIES["bert"].make(tmp_path / "base")
    refs = Shelf(resolve_base(str(tmp_path / "base")), tmp_path / "shelf").classifiers(3)
    engine = open_database(tmp_path / "headmix.db")
    fill_with(engine, refs, tmp_path / "artifacts")
    library = Library(Catalog(engine), ArtifactStore(tmp_path / "artifacts"), base="")
    for ref in refs:
        version, hold = library.hold(TENANT, ref.name)
        assert version.digest == ref.digest
        assert Path(library.store.path(ref.digest)).read_bytes() == Path(ref.path).read_bytes()
        hold.release()
    engine.dispose()
