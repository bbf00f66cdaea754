"""Pictures say what they show, look the same every time, and never fail a run."""

import math
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree as ET

import msgspec
import pytest

from harness.adapters.artifacts import random_artifact
from harness.bases.families import FAMILIES
from headmix_adapters.base import resolve_base
from headmix_adapters.headmap import HeadMap, SiteMap
from headmix_adapters.pictures import canvas
from headmix_adapters.pictures.canvas import PictureError, PictureFormat
from headmix_adapters.pictures.curves import draw_curves, smoothed
from headmix_adapters.pictures.head_map import cells, draw_head_maps
from headmix_adapters.pictures.run_pictures import draw_run, run_pictures
from headmix_adapters.train.history.events import Scored, Started, Step
from headmix_adapters.train.history.history import History, history_path, write_history

STARTED = Started(
    name="spam",
    task="classification",
    steps=4,
    epochs=2,
    train_examples=8,
    valid_examples=4,
    score_name="accuracy",
    greater_is_better=True,
    base={"accuracy": 0.5},
    linear_classifier={"accuracy": 0.75},
)


@pytest.fixture
def history() -> History:
    steps = [Step(step=n, epoch=n / 2, train_loss=1 / n, learning_rate=0.1, tokens=n) for n in range(1, 5)]
    scores = {"accuracy": 0.5, "loss": 0.3}
    scored = [Scored(step=n, epoch=n / 2, train_loss=0.5, valid_loss=0.3, score=0.5, scores=scores) for n in (2, 4)]
    return History(STARTED, steps, scored)


@pytest.fixture
def head_map() -> HeadMap:
    """Two of six layers of a base with four heads on two, q and v adapted."""
    q = SiteMap([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 8.0]], [[10.0] * 4] * 2)
    v = SiteMap([[1.0, 2.0], [3.0, 4.0]], [[10.0] * 2] * 2)
    return HeadMap(num_layers=6, num_heads=4, num_kv_heads=2, layers=(4, 5), sites={"q": q, "v": v})


def words(path: Path) -> str:
    return " ".join("".join(element.itertext()) for element in ET.parse(path).iter() if element.tag.endswith("text"))


def test_the_curves_name_what_they_show(history: History, tmp_path: Path) -> None:
    draw_curves(history, "spam $x_1$", tmp_path / "c.svg")
    shown = words(tmp_path / "c.svg")
    for text in ("spam $x_1$", "Loss", "training", "held out", "Held-out accuracy", "base", "linear classifier"):
        assert text in shown


def test_a_generators_curves_are_losses_alone_beside_its_bases(history: History, tmp_path: Path) -> None:
    started = msgspec.structs.replace(STARTED, score_name="answer_nll", base={"answer_nll": 2.0})
    draw_curves(History(started, history.steps, history.scored), "king", tmp_path / "c.svg")
    assert "base" in words(tmp_path / "c.svg")
    assert "Held-out" not in words(tmp_path / "c.svg")


def test_a_run_that_was_never_scored_has_curves_too(history: History, tmp_path: Path) -> None:
    draw_curves(History(STARTED, history.steps[:1], []), "spam", tmp_path / "c.svg")
    assert "training" in words(tmp_path / "c.svg")


def test_a_long_runs_curve_is_thinned(tmp_path: Path) -> None:
    steps = [Step(step=n, epoch=n / 9, train_loss=1.0, learning_rate=0.1, tokens=n) for n in range(1, 30_001)]
    draw_curves(History(STARTED, steps, []), "long", tmp_path / "c.svg")
    assert (tmp_path / "c.svg").stat().st_size < 400_000


def test_the_moving_average_starts_with_what_there_is() -> None:
    assert smoothed([2.0, 4.0]) == pytest.approx([2.0, (0.9 * 2 + 4) / 1.9])


def test_a_head_map_names_sites_heads_and_what_is_not_adapted(head_map: HeadMap, tmp_path: Path) -> None:
    draw_head_maps({"spam": head_map}, tmp_path / "h.svg")
    shown = words(tmp_path / "h.svg")
    for text in ("spam", "queries: q", "values: v", "not adapted", "layer", "each for 2 query heads"):
        assert text in shown
    assert "output: o" not in shown


def test_a_maps_cells_are_percent_and_empty_where_nothing_is_adapted(head_map: HeadMap) -> None:
    assert cells(head_map, "v")[4].tolist() == [10.0, 20.0]
    assert all(math.isnan(value) for value in cells(head_map, "v")[:4].ravel())
    assert cells(head_map, "q").shape == (6, 4)


def test_two_maps_are_drawn_under_their_names(head_map: HeadMap, tmp_path: Path) -> None:
    draw_head_maps({"one": head_map, "other": head_map}, tmp_path / "h.png")
    assert (tmp_path / "h.png").read_bytes().startswith(b"\x89PNG")
    draw_head_maps({"one": head_map, "other": head_map}, tmp_path / "h.svg")
    assert "one" in words(tmp_path / "h.svg")
    assert "other" in words(tmp_path / "h.svg")


def test_a_map_of_thousands_of_heads_stays_small(tmp_path: Path) -> None:
    many = SiteMap([[1.0] * 128] * 96, [[2.0] * 128] * 96)
    draw_head_maps({"large": HeadMap(96, 128, 128, tuple(range(96)), {"q": many, "o": many})}, tmp_path / "h.svg")
    assert (tmp_path / "h.svg").stat().st_size < 1_000_000


def test_the_same_picture_has_the_same_bytes(history: History, head_map: HeadMap, tmp_path: Path) -> None:
    for name in ("one", "other"):
        draw_curves(history, "spam", tmp_path / f"{name}.c.svg")
        draw_head_maps({"spam": head_map}, tmp_path / f"{name}.h.svg")
    assert (tmp_path / "one.c.svg").read_bytes() == (tmp_path / "other.c.svg").read_bytes()
    assert (tmp_path / "one.h.svg").read_bytes() == (tmp_path / "other.h.svg").read_bytes()


@pytest.mark.parametrize("name", ["h.jpg", "h", "svg"])
def test_a_name_of_another_format_is_refused(head_map: HeadMap, tmp_path: Path, name: str) -> None:
    with pytest.raises(PictureError, match=r"a picture's name ends with \.svg or \.png"):
        draw_head_maps({"spam": head_map}, tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def finished(tmp_path: Path, history: History) -> Path:
    """An artifact and its history, next to the tiny base in `base`."""
    (tmp_path / "base").mkdir()
    FAMILIES["llama"].make(tmp_path / "base")
    path = tmp_path / "out" / "a.safetensors"
    path.parent.mkdir()
    random_artifact(path, resolve_base(str(tmp_path / "base")).shape)
    write_history(history_path(path), history)
    return path


def test_a_runs_pictures_lie_next_to_its_artifact_and_replace_an_older_runs(finished: Path, tmp_path: Path) -> None:
    base = resolve_base(str(tmp_path / "base"))
    for kind in get_args(PictureFormat):
        said = draw_run(finished, base, kind)
        curves, heads = run_pictures(finished, kind)
        assert said == f"drew {curves} and {heads}"
        assert {path.name for path in finished.parent.iterdir()} == {
            "a.safetensors",
            "a.history.jsonl",
            f"a.curves.{kind}",
            f"a.heads.{kind}",
        }
    assert draw_run(finished, base, None) == ""
    assert len(list(finished.parent.iterdir())) == 2


def test_without_matplotlib_a_run_says_how_to_get_it(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canvas, "find_spec", lambda _: None)
    said = draw_run(finished, resolve_base(str(tmp_path / "base")), "svg")
    assert said == "pictures need matplotlib, which is not installed: pip install 'headmix[plot]'"


def test_whatever_is_wrong_with_a_picture_the_run_goes_on(finished: Path, tmp_path: Path) -> None:
    history_path(finished).write_text("no history\n")
    said = draw_run(finished, resolve_base(str(tmp_path / "base")), "svg")
    assert said.startswith("the pictures could not be drawn: ")
    assert finished.exists()
