"""Owns `headmix models`."""

import typer

from headmix.cli.output import JsonOption, print_json, print_table, short
from headmix.cli.session import Session


def models(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List what can be asked: the base and your adapters."""
    with Session.of(ctx).client() as client:
        found = client.models.list()
    if as_json:
        print_json(found)
        return
    rows = [(model.id, model.task, model.version, short(model.digest), model.resident, model.parent) for model in found]
    print_table(("model", "task", "version", "digest", "resident", "base"), rows)
