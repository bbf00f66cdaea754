from pathlib import Path

import pytest

from harness.adapters.artifacts import random_artifact, tiny_base_shape
from harness.adapters.records import record_of
from headmix_adapters.artifact import ArtifactError, digest_file, verify_artifact
from headmix_server.app.startup.preload import TENANT, Preload
from headmix_server.catalog.bytes.store import ArtifactStore
from headmix_server.catalog.bytes.upload import Upload
from headmix_server.catalog.catalog import Catalog
from headmix_server.catalog.library import Library
from headmix_server.catalog.version import AdapterRecord
from headmix_server.core.errors import InvalidAdapter
from headmix_server.database import open_database

BASE = tiny_base_shape()


@pytest.fixture
def library(tmp_path: Path) -> Library:
    catalog = Catalog(open_database(tmp_path / "headmix.db"), reserved={"tiny"})
    return Library(catalog, ArtifactStore(tmp_path / "store"), base=BASE.fingerprint)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "preload"
    folder.mkdir()
    return folder


def _preload(library: Library, files: Path) -> None:
    preload = Preload(library, files.parent / "preloaded.json", verify=_verify, max_bytes=1 << 20)
    preload.publish_all(files)


def _verify(upload: Upload) -> AdapterRecord:
    try:
        artifact = verify_artifact(upload.path, base=BASE)
    except ArtifactError as error:
        raise InvalidAdapter(str(error), faults=[str(fault) for fault in error.faults]) from error
    return AdapterRecord(
        digest=upload.digest,
        base=BASE.fingerprint,
        size_bytes=artifact.size_bytes,
        num_parameters=artifact.num_parameters,
        config=artifact.config,
    )


def _versions(library: Library, name: str) -> list[tuple[int, str, bool]]:
    return [(v.version, v.digest, v.current) for v in library.catalog.versions(TENANT, name).versions]


def _upload(library: Library, name: str, content: bytes) -> None:
    with library.store.receive(max_bytes=1 << 20) as upload:
        upload.write(content)
        library.publish(TENANT, name, upload, record_of(content))


def test_each_file_becomes_an_adapter_named_by_it_once(library: Library, files: Path) -> None:
    digests = {name: random_artifact(files / f"{name}.safetensors", BASE, seed=n) for n, name in enumerate("ab")}
    (files / "notes.txt").touch()
    for _ in range(2):
        _preload(library, files)
    assert {v.name: (v.digest, v.version) for v in library.catalog.list(TENANT)} == {
        name: (digest, 1) for name, digest in digests.items()
    }
    assert digest_file(library.store.path(digests["a"])) == digests["a"]


def test_a_bad_file_is_logged_and_the_others_are_published(
    library: Library, files: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    random_artifact(files / "good.safetensors", BASE)
    random_artifact(files / "Bad Name.safetensors", BASE)
    random_artifact(files / "tiny.safetensors", BASE)
    random_artifact(files / "misfit.safetensors", tiny_base_shape(hidden_size=64))
    (files / "broken.safetensors").write_bytes(b"nonsense")
    (files / "folder.safetensors").mkdir()
    _preload(library, files)
    assert [v.name for v in library.catalog.list(TENANT)] == ["good"]
    output = capfd.readouterr().out
    for name in ("Bad Name", "tiny", "misfit", "broken", "folder"):
        assert f"{name}.safetensors" in output
    assert list((files.parent / "store" / "incoming").iterdir()) == []


def test_a_changed_file_becomes_the_next_version(library: Library, files: Path) -> None:
    old = random_artifact(files / "a.safetensors", BASE, seed=1)
    _preload(library, files)
    new = random_artifact(files / "a.safetensors", BASE, seed=2)
    _preload(library, files)
    assert _versions(library, "a") == [(2, new, True), (1, old, False)]


def test_a_file_never_displaces_what_a_user_uploaded(library: Library, files: Path) -> None:
    random_artifact(files / "a.safetensors", BASE, seed=1)
    _preload(library, files)
    _upload(library, "a", b"the user's")
    _preload(library, files)
    random_artifact(files / "a.safetensors", BASE, seed=2)
    _preload(library, files)
    assert [(number, current) for number, _, current in _versions(library, "a")] == [(2, True), (1, False)]


def test_a_file_never_displaces_what_a_user_rolled_back(library: Library, files: Path) -> None:
    for seed in (1, 2):
        random_artifact(files / "a.safetensors", BASE, seed=seed)
        _preload(library, files)
    library.catalog.rollback(TENANT, "a")
    _preload(library, files)
    assert library.catalog.resolve(TENANT, "a").version == 1


def test_without_the_record_no_users_version_is_replaced(library: Library, files: Path) -> None:
    old = random_artifact(files / "a.safetensors", BASE, seed=1)
    _preload(library, files)
    (files.parent / "preloaded.json").write_text("{", encoding="utf-8")
    random_artifact(files / "a.safetensors", BASE, seed=2)
    _preload(library, files)
    assert _versions(library, "a") == [(1, old, True)]


def test_a_folder_that_is_not_there_is_an_error_in_the_log_only(
    library: Library, files: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _preload(library, files / "missing")
    assert "nothing to preload" in capfd.readouterr().out
