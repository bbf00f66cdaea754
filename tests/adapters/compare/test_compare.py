"""`headmix compare` shows adapters next to each other, and says what cannot be compared."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from harness.adapters.artifacts import random_artifact, with_description
from harness.adapters.mixed_sites import MIXED_SITES
from harness.bases.families import FAMILIES
from headmix_adapters.base import resolve_base
from headmix_adapters.compare import cli
from headmix_adapters.compare.comparison import correlation, distinct_names
from headmix_adapters.config import BaseShape
from headmix_adapters.headmap import HeadMap, SiteMap
from headmix_adapters.pictures import canvas


def record(accuracy: float, held_out: str = "sha256:aa") -> dict[str, Any]:
    return {"metrics": {"adapter": {"accuracy": accuracy}}, "data": {"eval": {"digest": held_out}}}


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    FAMILIES["llama"].make(folder)
    return folder


@pytest.fixture
def shape(base_folder: Path) -> BaseShape:
    return resolve_base(str(base_folder)).shape


@pytest.fixture
def files(tmp_path: Path, shape: BaseShape) -> tuple[Path, Path]:
    one, other = tmp_path / "one.safetensors", tmp_path / "other.safetensors"
    random_artifact(one, shape, MIXED_SITES[0], training=record(0.91))
    random_artifact(other, shape, MIXED_SITES[2], seed=1, layers=[1, 2], training=record(0.95))
    return one, other


def run(*arguments: str | Path) -> tuple[int, str, str]:
    app = typer.Typer()
    app.command()(cli.compare_adapters)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "140"})
    return result.exit_code, result.stdout, result.stderr


def test_scores_ranks_sizes_and_changes_stand_side_by_side(files: tuple[Path, Path], base_folder: Path) -> None:
    code, out, _ = run(*files, "--base", base_folder)
    assert code == 0
    rows = {" ".join(line.split()[:-2]): line.split()[-2:] for line in out.splitlines() if len(line.split()) > 2}
    assert rows["accuracy"] == ["0.91", "0.95"]
    assert rows["layers"] == ["0-2", "1-2"]
    for words in ("3 per head, 5 shared", "6 shared", "mean change of q", "layer ", "ranks at k", "correlation of the"):
        assert words in out
    assert "note" not in out


def test_json_has_everything_the_table_has_and_the_maps(files: tuple[Path, Path], base_folder: Path) -> None:
    code, out, _ = run(*files, "--base", base_folder, "--json")
    found = json.loads(out)
    assert code == 0
    assert [one["name"] for one in found["adapters"]] == ["one", "other"]
    assert found["adapters"][1]["head_map"]["layers"] == [1, 2]
    assert found["correlation"].keys() == {"q", "v", "o"}
    assert found["notes"] == []


def test_the_picture_has_both_maps(files: tuple[Path, Path], base_folder: Path, tmp_path: Path) -> None:
    code, _, err = run(*files, "--base", base_folder, "--plot", tmp_path / "two.svg")
    assert (code, err) == (0, f"drew {tmp_path / 'two.svg'}\n")
    assert all(f">{name}<" in (tmp_path / "two.svg").read_text() for name in ("one", "other"))


def test_without_the_base_everything_but_the_maps_is_shown(files: tuple[Path, Path], tmp_path: Path) -> None:
    code, out, _ = run(*files)
    assert code == 0
    assert "0.91" in out
    assert "mean change" not in out
    assert "note: one has no head map: no base " in out
    code, _, err = run(*files, "--plot", tmp_path / "two.svg")
    assert (code, err.startswith("no base ")) == (1, True)


def test_scores_on_different_data_are_remarked_on(files: tuple[Path, Path], shape: BaseShape) -> None:
    random_artifact(files[1], shape, training=record(0.99, held_out="sha256:bb"))
    assert "note: the scores are on different held-out data" in run(*files)[1]
    random_artifact(files[1], shape)
    assert "note: no scores in the header of other" in run(*files)[1]


def test_scores_on_other_splits_of_one_file_are_on_different_data(files: tuple[Path, Path], shape: BaseShape) -> None:
    def split(rows: str | None) -> dict[str, Any]:
        made = record(0.9)
        made["data"]["train"] = {"digest": "sha256:aa"}
        made["data"]["eval"] |= {} if rows is None else {"rows": rows}
        return made

    for path, rows in zip(files, ("sha256:r1", "sha256:r2"), strict=True):
        random_artifact(path, shape, training=split(rows))
    assert "note: the scores are on different held-out data" in run(*files)[1]
    random_artifact(files[1], shape, training=split("sha256:r1"))
    assert "held-out" not in run(*files)[1]
    for path in files:
        random_artifact(path, shape, training=split(None))
    assert "the header of one, other does not say which held-out data its scores are on" in run(*files)[1]


def test_text_from_a_file_cannot_control_the_terminal(files: tuple[Path, Path]) -> None:
    scores = {"metrics": {"adapter": {"acc\x1b[31m": 1, "worse": "text", "yes": True}}}
    files[1].write_bytes(with_description(files[1].read_bytes(), {"training": scores}))
    _, out, _ = run(*files)
    assert "\x1b" not in out
    assert "worse" not in out


def test_what_cannot_be_compared_is_refused(files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "two adapters or more" in run(files[0])[2]
    files[1].write_bytes(b"nothing")
    assert run(*files)[0] == 1
    monkeypatch.setattr(canvas, "find_spec", lambda _: None)
    assert "pip install 'headmix[plot]'" in run(*files, "--plot", "two.svg")[2]


def test_the_correlation_of_maps_is_over_the_layers_and_heads_they_share() -> None:
    def head_map(layers: tuple[int, ...], rows: list[list[float]], site: str = "q") -> HeadMap:
        return HeadMap(3, 2, 2, layers, {site: SiteMap(rows, [[1.0, 1.0]] * len(rows))})

    one = head_map((0, 1), [[9.0, 9.0], [1.0, 2.0]])
    assert correlation(one, head_map((1, 2), [[2.0, 4.0], [7.0, 7.0]])) == {"q": pytest.approx(1.0)}
    assert correlation(one, head_map((1,), [[4.0, 2.0]])) == {"q": pytest.approx(-1.0)}
    assert correlation(one, head_map((1,), [[4.0, 4.0]])) == {}
    assert correlation(one, head_map((2,), [[4.0, 2.0]])) == {}
    assert correlation(one, head_map((1,), [[4.0, 2.0]], "v")) == {}
    assert correlation(one, HeadMap(3, 3, 3, (1,), {"q": SiteMap([[1.0, 2.0, 3.0]], [[1.0] * 3])})) == {}


def test_files_of_one_name_are_named_with_their_folders() -> None:
    assert distinct_names([Path("a/x.safetensors"), Path("b/y.safetensors")]) == ["x", "y"]
    assert distinct_names([Path("a/x.safetensors"), Path("b/x.safetensors")]) == ["a/x", "b/x"]
