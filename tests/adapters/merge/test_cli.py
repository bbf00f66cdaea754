"""`headmix merge` takes files and weights as they are written, and says what cannot be merged."""

from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from harness.adapters.artifacts import random_artifact, tiny_base_shape
from headmix_adapters.artifact import digest_file, verify_artifact
from headmix_adapters.merge.cli import merge
from headmix_adapters.presets import Ranks, kernel_mix_sites

BASE = tiny_base_shape()


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{name}.safetensors" for name in "ab"]
    for seed, path in enumerate(paths):
        random_artifact(path, BASE, kernel_mix_sites(Ranks(1, 1, 0, 0)), seed=seed, dtype=torch.float32)
    return paths


def run(*words: object) -> tuple[int, str, str]:
    app = typer.Typer()
    app.command()(merge)
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize(
    "given", [["--weights", 0.7, 0.3], ["--weights", "0.7,0.3"], ["--weights", 0.7, "--weights", 0.3]]
)
def test_weights_are_taken_as_they_are_written(given: list[object], pair: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "c.safetensors"
    code, text, _ = run(*pair, *given, "--output", out)
    assert (code, text.strip()) == (0, f"{out}: {digest_file(out)}")
    training = verify_artifact(out, base=BASE).config.training["merged"]
    assert [(one["file"], one["weight"]) for one in training["adapters"]] == [
        ("a.safetensors", 0.7),
        ("b.safetensors", 0.3),
    ]


def test_a_negative_weight_is_written_with_a_comma(pair: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "c.safetensors"
    assert run(*pair, "--weights", "1,-0.5", "--output", out)[0] == 0
    training = verify_artifact(out, base=BASE).config.training["merged"]
    assert [one["weight"] for one in training["adapters"]] == [1.0, -0.5]


def test_what_is_there_is_replaced_with_force_alone(pair: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "c.safetensors"
    out.write_bytes(b"a good adapter")
    code, _, error = run(*pair, "--weights", 1, 1, "-o", out)
    assert (code, error.strip()) == (2, f"{out}: exists; --force replaces it")
    assert out.read_bytes() == b"a good adapter"
    assert run(*pair, "--weights", 1, 1, "-o", out, "--force")[0] == 0


def test_without_a_name_the_result_is_named_after_the_adapters_in_the_current_folder(
    pair: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    code, text, _ = run(*pair, "--weights", 0.7, 0.3)
    assert (code, text.strip()) == (0, f"a+b.safetensors: {digest_file(Path('a+b.safetensors'))}")
    code, _, error = run(*pair, "--weights", 0.7, 0.3)
    assert (code, error.strip()) == (2, "a+b.safetensors: exists; --force replaces it")
    assert run(*pair, "--weights", 0.7, 0.3, "--force")[0] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--seed", 3), "seed: belongs to dare-linear and dare-ties; join draws nothing at random"),
        (("--seed", 0, "--method", "ties"), "seed: belongs to dare-linear and dare-ties; ties draws nothing at random"),
        (("--first-head",), "first_head: none of the adapters has a classification head"),
    ],
)
def test_an_option_without_effect_is_refused(
    words: tuple[object, ...], message: str, pair: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "c.safetensors"
    code, _, error = run(*pair, "--weights", "1,1", "-o", out, *words)
    assert (code, error.strip()) == (2, message)
    assert not out.exists()


def test_notes_go_to_standard_error(pair: list[Path], tmp_path: Path) -> None:
    code, _, error = run(*pair, "--weights", "1,1", "-o", tmp_path / "c.safetensors", "--rank", 1)
    assert code == 0
    assert "q.head: rank 2 was lowered to 1 by SVD, which loses" in error


def test_wrong_words_are_named(pair: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "c.safetensors"
    assert run(*pair, "--weights", "one", "-o", out)[2].strip() == "weights: one is not a number"
    assert run(pair[0], "nowhere", "--weights", "1,1", "-o", out)[2].strip() == "adapters: nowhere is not a file"
    assert run(*pair, "--weights", "1", "-o", out)[2].strip() == "weights: 1 given for 2 adapters"
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"")
    code, _, error = run(pair[0], broken, "--weights", "1,1", "-o", out)
    assert code == 2
    assert error.strip()
    assert not out.exists()
