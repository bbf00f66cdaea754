"""The body of /v1/usage, as JSON and as CSV."""

import csv
import io
from collections.abc import Sequence
from datetime import date
from typing import Literal

from headmix_server.api.schemas.body import ResponseBody
from headmix_server.tenancy.usage.report import UsageLine


class UsageObject(ResponseBody):
    """The usage of one group; fields not in `group_by` are null. `model` is the base's name or an adapter's."""

    object: Literal["usage.line"] = "usage.line"
    tenant: str | None
    day: str | None
    model: str | None
    requests: int
    prompt_tokens: int
    cached_tokens: int
    generation_tokens: int
    trained_tokens: int


class StorageObject(ResponseBody):
    """The bytes that a tenant stores now, as its limit counts them; a `limit` of 0 means none.

    `held_by_jobs` of them are only stored until unfinished jobs end.
    """

    tenant: str
    stored_bytes: int
    held_by_jobs: int
    limit: int


class UsageList(ResponseBody):
    """Usage from the day `first` to the day `last`, UTC, and what the key's tenant, or the one named, stores."""

    object: Literal["list"] = "list"
    first: date
    last: date
    data: list[UsageObject]
    storage: StorageObject


COLUMNS = tuple(name for name in UsageObject.model_fields if name != "object")


def usage_object(line: UsageLine, base: str) -> UsageObject:
    """Return one line as clients see it; `base` is the name that stands for the base alone."""
    used = line.used
    return UsageObject(
        tenant=line.tenant,
        day=line.day,
        model=base if line.adapter == "" else line.adapter,
        requests=used.requests,
        prompt_tokens=used.prompt_tokens,
        cached_tokens=used.cached_tokens,
        generation_tokens=used.generation_tokens,
        trained_tokens=used.trained_tokens,
    )


def usage_csv(lines: Sequence[UsageObject]) -> str:
    """Return the lines as CSV, below a line of column names."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows([_cell(getattr(line, name)) for name in COLUMNS] for line in lines)
    return text.getvalue()


def _cell(value: str | int | None) -> str | int | None:
    """Return a cell that no spreadsheet interprets as a formula, whatever a base is called."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
