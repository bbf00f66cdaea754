"""Owns `headmix tenants limits`: shows and sets what a tenant may use."""

from typing import Annotated

import typer

from headmix.cli.output import JsonOption, print_json, print_table
from headmix.cli.session import Session
from headmix.types.tenants.limits import LimitChanges, Limits, OwnLimits

DEFAULT = "default"


def limits(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The tenant's name.")],
    requests_per_minute: Annotated[str | None, typer.Option(metavar="N", help="Requests per minute.")] = None,
    tokens_per_minute: Annotated[
        str | None, typer.Option(metavar="N", help="Tokens per minute, prompts and completions together.")
    ] = None,
    tokens_per_request: Annotated[
        str | None, typer.Option(metavar="N", help="Tokens per request, prompts and completions together.")
    ] = None,
    concurrent_requests: Annotated[str | None, typer.Option(metavar="N", help="Concurrent requests.")] = None,
    adapters: Annotated[str | None, typer.Option(metavar="N", help="Adapter names.")] = None,
    stored_bytes: Annotated[str | None, typer.Option(metavar="N", help="Bytes of artifacts, files and jobs.")] = None,
    training_jobs: Annotated[str | None, typer.Option(metavar="N", help="Unfinished fine-tuning jobs.")] = None,
    training_tokens_per_day: Annotated[
        str | None, typer.Option(metavar="N", help="Tokens per UTC day that fine-tuning jobs read.")
    ] = None,
    weight: Annotated[str | None, typer.Option(metavar="W", help="Share relative to other tenants; default 1.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Set the limits you name and show all limits of a tenant. 0 means no limit; `default` returns to the server's."""
    given = {
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "tokens_per_request": tokens_per_request,
        "concurrent_requests": concurrent_requests,
        "adapters": adapters,
        "stored_bytes": stored_bytes,
        "training_jobs": training_jobs,
        "training_tokens_per_day": training_tokens_per_day,
        "weight": weight,
    }
    changes = read_changes({limit: text for limit, text in given.items() if text is not None})
    with Session.of(ctx).client() as client:
        found = client.tenants.set_limits(name, **changes) if changes else client.tenants.limits(name)
    if as_json:
        print_json(found)
    else:
        print_table(("limit", "value", "set for the tenant"), _rows(found))


def read_changes(given: dict[str, str]) -> LimitChanges:
    """Parse the options' values as limits; an invalid value is a usage error."""
    changes = LimitChanges()
    for limit, text in given.items():
        if limit == "weight":
            changes["weight"] = None if text == DEFAULT else _weight(text)
        else:
            changes[limit] = None if text == DEFAULT else _count(text)  # type: ignore[literal-required] # an option
    return changes


def _count(text: str) -> int:
    if not text.isdecimal():
        raise typer.BadParameter(f"a limit is a whole number (0 means no limit) or `{DEFAULT}`; not {text!r}")
    return int(text)


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"a weight is a number or `{DEFAULT}`; not {text!r}") from None


def _rows(found: Limits) -> list[tuple[object, ...]]:
    return [(name, getattr(found.effective, name), getattr(found.own, name)) for name in OwnLimits.model_fields]
