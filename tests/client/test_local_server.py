"""The key of a server on this machine goes to that server, and to no other."""

from pathlib import Path

import pytest

from headmix.local_server import find_local_key, is_local

KEY = "hm_secret"


def data_folder(path: Path, address: str | None = "http://127.0.0.1:8000", key: str | None = KEY) -> None:
    path.mkdir(parents=True)
    if address is not None:
        (path / "address").write_text(f"{address}\n")
    if key is not None:
        (path / "admin.key").write_text(f"{key}\n")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("HEADMIX_DATA_DIR", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:8000", True),
        ("http://127.9.9.9", True),
        ("http://localhost:8000/v1", True),
        ("https://[::1]:8000", True),
        ("http://0.0.0.0:8000", False),
        ("http://10.0.0.1:8000", False),
        ("http://localhost.example.com", False),
        ("http://127.0.0.1.example.com", False),
        ("http://[", False),
        ("nonsense", False),
    ],
)
def test_only_loopback_addresses_are_this_machine(url: str, local: bool) -> None:
    assert is_local(url) == local


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "http://localhost:8000", "http://[::1]:8000/v1"])
def test_the_server_started_here_gets_its_own_key(url: str, here: Path) -> None:
    data_folder(here / ".headmix")
    found = find_local_key(url)
    assert found is not None
    assert (found.text, found.file) == (KEY, Path(".headmix/admin.key"))
    assert KEY not in repr(found)


@pytest.mark.parametrize(
    ("url", "address", "key"),
    [
        ("http://127.0.0.1:9000", "http://127.0.0.1:8000", KEY),
        ("http://example.com:8000", "http://127.0.0.1:8000", KEY),
        ("http://192.168.0.2:8000", "http://192.168.0.2:8000", KEY),
        ("http://127.0.0.1:8000", None, KEY),
        ("http://127.0.0.1:8000", "http://[", KEY),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000", None),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000", ""),
    ],
)
def test_no_other_server_gets_it(url: str, address: str | None, key: str | None, here: Path) -> None:
    data_folder(here / ".headmix", address, key)
    assert find_local_key(url) is None


def test_of_several_servers_each_gets_its_own(here: Path) -> None:
    data_folder(here / ".headmix", "http://127.0.0.1:8000", "hm_one")
    data_folder(here / ".headmix-minilm", "http://127.0.0.1:8001", "hm_two")
    assert [found.text for port in (8000, 8001) if (found := find_local_key(f"http://127.0.0.1:{port}"))] == [
        "hm_one",
        "hm_two",
    ]


def test_a_data_folder_elsewhere_is_named_by_its_variable(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_folder(here / ".headmix", key="hm_here")
    data_folder(tmp_path / "data", key="hm_there")
    monkeypatch.setenv("HEADMIX_DATA_DIR", str(tmp_path / "data"))
    found = find_local_key("http://127.0.0.1:8000")
    assert found is not None
    assert found.text == "hm_there"
