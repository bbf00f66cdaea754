"""Owns `headmix models`."""

import typer

from headmix.cli.output import JsonOption, print_json, print_table, short
from headmix.cli.session import Session
from headmix.types.model import Model


def models(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List the models you can query: the base and your adapters."""
    with Session.of(ctx).client() as client:
        found = client.models.list()
    if as_json:
        print_json(found)
        return
    columns = ("model", "task", "version", "digest", "resident", "base")
    print_table(columns, (_row(model) for model in found))


def _row(model: Model) -> tuple[object, ...]:
    version = None if model.version is None else f"{model.id}@{model.version}"
    return (model.id, model.task, version, short(model.digest), model.resident, model.parent)
