"""A header says which rows its scores are on, and one that does not is never taken for the same."""

from typing import Any

import pytest

from headmix_adapters.train.errors import RecipeError
from headmix_adapters.train.held_out_record import held_out_rows, remark_on_rows, scored_on

FILE, OTHER = "sha256:aa", "sha256:bb"


def split(rows: str | None, file: str = FILE, **recipe: Any) -> dict[str, Any]:
    """Return the record of a run whose held-out rows are of its training file; without `rows`, an older run's."""
    held_out = {"digest": file} | ({} if rows is None else {"rows": rows})
    return {"data": {"train": {"digest": file}, "eval": held_out}, "recipe": {"data": {"eval": None, **recipe}}}


def own_file(held_out: str, train: str = FILE, **recipe: Any) -> dict[str, Any]:
    """Return the record of a run with a file to score with."""
    data = {"train": {"digest": train}, "eval": {"digest": held_out}}
    return {"data": data, "recipe": {"data": {"eval": "eval.jsonl", **recipe}}}


def test_split_rows_are_known_by_themselves_and_others_by_their_file() -> None:
    assert held_out_rows(split("sha256:r1")) == "sha256:r1"
    assert held_out_rows(own_file(OTHER)) == OTHER
    assert held_out_rows(own_file(FILE)) == FILE


@pytest.mark.parametrize(
    "training",
    [split(None), {}, {"data": 7}, {"data": {"eval": {"digest": 7}}}, {"merged": {"method": "join"}}],
    ids=["an older split", "nothing", "no table", "no text", "a merge"],
)
def test_what_a_header_does_not_say_is_unknown(training: dict[str, Any]) -> None:
    assert held_out_rows(training) is None
    assert scored_on(training) is None


def test_scores_of_other_answers_or_of_texts_cut_elsewhere_are_on_other_data() -> None:
    assert scored_on(own_file(OTHER, learn="all")) != scored_on(own_file(OTHER, learn="last"))
    assert scored_on(own_file(OTHER, max_length=64)) == scored_on(own_file(OTHER, max_length=128))
    cut = own_file(OTHER, max_length=64)
    cut["data"]["eval"]["truncated"] = 3
    assert scored_on(cut) != scored_on(own_file(OTHER, max_length=128))


def test_the_rows_held_out_in_training_need_no_remark() -> None:
    assert remark_on_rows(split("sha256:r1"), split("sha256:r1", learn="all")) is None
    assert remark_on_rows(own_file(OTHER), own_file(OTHER, train="sha256:cc")) is None


@pytest.mark.parametrize("recorded", [split("sha256:r1"), own_file(OTHER)], ids=["another split", "a file"])
def test_rows_that_may_have_been_learned_are_refused(recorded: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="so it may have learned them"):
        remark_on_rows(recorded, split("sha256:r2"))


@pytest.mark.parametrize(
    ("recorded", "current", "remark"),
    [
        (split(None), split("sha256:r1"), "does not say which texts it was trained on"),
        ({}, split("sha256:r1"), "does not say which texts it was trained on"),
        ({}, own_file(OTHER), "does not say which texts it was trained on"),
        (split("sha256:r1"), own_file(FILE), "of the file that the adapter was trained on"),
        (split("sha256:r1"), own_file(OTHER), "are on other held-out texts"),
        (split(None), own_file(OTHER), "are on other held-out texts"),
    ],
)
def test_what_is_doubtful_about_the_scores_is_said(
    recorded: dict[str, Any], current: dict[str, Any], remark: str
) -> None:
    said = remark_on_rows(recorded, current)
    assert said is not None
    assert remark in said
