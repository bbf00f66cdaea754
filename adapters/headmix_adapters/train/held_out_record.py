"""What an artifact's header says about the rows its scores are on, and whether other scores are on the same.

A header's record of training is free-form and may be anybody's: what is not as expected counts as unknown. Does not
load torch.
"""

from collections.abc import Mapping
from typing import Any

from headmix_adapters.train.errors import RecipeError


def held_out_rows(training: Mapping[str, Any]) -> str | None:
    """Return an identity of the held-out rows in a record of training; None if it does not say which they were.

    A file of their own is known by its digest. Those split from the training file are known by a digest of the rows:
    which they are depends on seed and share too.
    """
    held_out = table_in(training, "data", "eval")
    if (rows := _text(held_out.get("rows"))) is not None:
        return rows
    digest, learned = _text(held_out.get("digest")), _text(table_in(training, "data", "train").get("digest"))
    is_split = digest == learned and _text(table_in(training, "recipe", "data").get("eval")) is None
    return None if is_split else digest


def scored_on(training: Mapping[str, Any]) -> str | None:
    """Return an identity of what the scores in a record of training are on: the rows, and what is read of them."""
    rows, data = held_out_rows(training), table_in(training, "recipe", "data")
    if rows is None:
        return None
    held_out, read = table_in(training, "data", "eval"), []
    if data.get("learn") == "all":
        read.append("learn all")
    if held_out.get("truncated") or held_out.get("dropped"):
        read.append(f"max_length {data.get('max_length')}")
    return f"{rows} ({', '.join(read)})" if read else rows


def remark_on_rows(recorded: Mapping[str, Any], current: Mapping[str, Any]) -> str | None:
    """Return what to know about scores of an artifact with one record of training on the held-out rows of another.

    Raises:
        RecipeError: the rows are split from a training file, and are not those held out when the artifact was trained,
            so that it may have learned them.
    """
    rows = held_out_rows(current)
    held_out = table_in(current, "data", "eval")
    is_split = "rows" in held_out
    learned = _text(table_in(recorded, "data", "train").get("digest"))
    if not is_split and learned == held_out.get("digest"):
        return "warning: these texts are of the file that the adapter was trained on"
    known = held_out_rows(recorded)
    if known == rows:
        return None
    if known is None and (is_split or learned is None):
        return "warning: the adapter's header does not say which texts it was trained on; these may be among them"
    if is_split:
        raise RecipeError(
            "these held-out texts are not those that were held out when the adapter was trained, so it may have "
            "learned them: use the recipe, data and seed it was trained with, or name a file to score with (data.eval)"
        )
    return "note: the scores in the adapter's header are on other held-out texts"


def table_in(values: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """Return a table within a header's record; empty if there is none."""
    inner: Any = values
    for key in keys:
        inner = inner.get(key) if isinstance(inner, Mapping) else None
    return inner if isinstance(inner, Mapping) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
