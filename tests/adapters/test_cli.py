"""`inspect` and `verify` print what is in a file and what is wrong with it; the exit status says if it is valid."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from typer.testing import CliRunner

from harness.adapters.artifacts import (
    classifier_config,
    edit_header,
    random_artifact,
    tiny_base_shape,
)
from harness.adapters.malformed import malformed_artifacts
from harness.bases.families import FAMILIES
from headmix_adapters import cli
from headmix_adapters.artifact import digest_file
from headmix_adapters.base import resolve_base
from headmix_adapters.pictures import canvas

BASE = tiny_base_shape()


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    path = tmp_path / "adapter.safetensors"
    labels = classifier_config("good", "bad", "[red]")
    random_artifact(path, BASE, layers=[1], classifier=labels, training={"accuracy": 0.91}, created_by="headmix 0.1.0")
    return path


def made_by(path: Path, creator: str) -> None:
    """Set `created_by` in an artifact's header, even with control characters, which headmix never writes."""

    def edit(header: dict[str, Any]) -> None:
        config = json.loads(header["__metadata__"]["headmix"])
        header["__metadata__"]["headmix"] = json.dumps(config | {"created_by": creator})

    path.write_bytes(edit_header(path.read_bytes(), edit))


def run(command: str, *arguments: str | Path) -> tuple[int, str, str]:
    app = typer.Typer()
    app.command("inspect")(cli.inspect)
    app.command("verify")(cli.verify)
    result = CliRunner().invoke(app, [command, *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_inspect_shows_the_config_the_sizes_and_the_digest(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    made_by(artifact, "headmix \x1b[31m 0.1.0")
    code, out, _ = run("inspect", artifact)
    assert code == 0
    for words in (
        digest_file(artifact),
        "kernel-mix, classification",
        "tiny (llama)",
        "per head on x: rank 2, scale 1, with bias",
        "shared: rank 4, scale 1",
        f"{artifact.stat().st_size:,}",
        "[red]",
        "accuracy",
        "0.91",
        r"headmix \x1b[31m 0.1.0",
    ):
        assert words in out


def test_inspect_as_json_is_one_object_with_the_whole_config(artifact: Path) -> None:
    code, out, _ = run("inspect", "--json", artifact)
    assert code == 0
    described = json.loads(out)
    assert described["digest"] == digest_file(artifact)
    assert described["layers"] == [1]
    assert described["dtypes"] == ["BF16"]
    assert described["sites"]["q"]["head"] == {"rank": 2, "base": "x", "scale": 1.0, "bias": True}
    assert described["classifier"]["labels"][:2] == ["good", "bad"]
    assert described["training"] == {"accuracy": 0.91}


def test_inspect_as_json_steers_no_terminal(artifact: Path) -> None:
    creator = "\x1b[2J\x9b31m\u202e"
    made_by(artifact, creator)
    _, out, _ = run("inspect", "--json", artifact)
    assert not set("\x1b\x9b\u202e") & set(out)
    assert json.loads(out)["created_by"] == creator


def test_what_would_steer_a_terminal_is_refused_by_verify_and_shown_harmless(artifact: Path) -> None:
    made_by(artifact, "headmix \x1b[31m 0.1.0")
    code, out, err = run("verify", artifact)
    assert code == 1
    assert "created_by" in out + err
    assert "\x1b" not in out + err


def test_verify_names_the_digest_of_a_sound_file(artifact: Path) -> None:
    assert run("verify", artifact) == (0, f"{artifact}: sound, {digest_file(artifact)}\n", "")


def test_verify_prints_every_fault_on_its_line_and_fails(tmp_path: Path) -> None:
    path = tmp_path / "adapter.safetensors"
    path.write_bytes(malformed_artifacts(BASE)["layer half there"])
    code, out, err = run("verify", path)
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        "layers.1.v.head.A: missing: a tensor of shape [2, 3, 8] is expected",
        "layers.1.v.head.bias: missing: a tensor of shape [2, 8] is expected",
    ]


def test_a_base_that_cannot_be_found_is_a_message_not_a_traceback(artifact: Path, tmp_path: Path) -> None:
    code, _, err = run("verify", artifact, "--base", tmp_path / "nowhere")
    assert code == 1
    assert "there is no such file or folder" in err


def test_inspect_of_something_else_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(malformed_artifacts(BASE)["pickle"])
    code, _, err = run("inspect", path)
    assert code == 1
    assert "pickle is never read" in err


def test_inspect_draws_the_head_map_of_any_artifact_given_its_base(tmp_path: Path) -> None:
    FAMILIES["llama"].make(tmp_path)
    shape = resolve_base(str(tmp_path)).shape
    path, picture = tmp_path / "adapter.safetensors", tmp_path / "heads.svg"
    random_artifact(path, shape)
    code, out, err = run("inspect", path, "--plot", picture, "--base", tmp_path)
    assert (code, err) == (0, f"drew {picture}\n")
    assert "kernel-mix" in out
    assert "queries: q" in picture.read_text()
    code, _, err = run("inspect", path, "--plot", picture)
    assert (code, err.startswith(f"no base {shape.name}")) == (1, True)


def test_inspect_remarks_on_other_weights_and_refuses_other_sizes(tmp_path: Path) -> None:
    FAMILIES["llama"].make(tmp_path)
    shape = resolve_base(str(tmp_path)).shape
    path, picture = tmp_path / "adapter.safetensors", tmp_path / "heads.svg"
    random_artifact(path, msgspec.structs.replace(shape, fingerprint="sha256:00000000"))
    code, _, err = run("inspect", path, "--plot", picture, "--base", tmp_path)
    assert code == 0
    assert "note: the adapter was trained on other weights than " in err
    random_artifact(path, msgspec.structs.replace(shape, num_layers=9))
    picture.unlink()
    code, _, err = run("inspect", path, "--plot", picture, "--base", tmp_path)
    assert (code, picture.exists()) == (1, False)
    assert "num_layers" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("--plot", "heads.jpg"), "ends with .svg or .png"), (("--base", "minilm-l6"), "--base is for --plot")],
)
def test_inspect_refuses_what_it_cannot_draw(artifact: Path, arguments: tuple[str, ...], message: str) -> None:
    code, _, err = run("inspect", artifact, *arguments)
    assert code != 0
    assert message in err


def test_without_matplotlib_inspect_says_how_to_get_it(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canvas, "find_spec", lambda _: None)
    code, _, err = run("inspect", artifact, "--plot", "heads.svg")
    assert (code, err) == (1, "pictures need matplotlib, which is not installed: pip install 'headmix[plot]'\n")
    assert run("inspect", artifact)[0] == 0
