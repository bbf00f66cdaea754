"""Owns the command tree: global options, the client's commands, and the discovered ones next to them."""

from typing import Annotated

import typer

from headmix.cli.commands.adapters.adapters import adapters_app
from headmix.cli.commands.batches.batches import batches_app
from headmix.cli.commands.batches.run_batch import run_batch
from headmix.cli.commands.files import files_app
from headmix.cli.commands.health import health
from headmix.cli.commands.inference.chat import chat
from headmix.cli.commands.inference.classify import classify
from headmix.cli.commands.inference.complete import complete
from headmix.cli.commands.inference.embed import embed
from headmix.cli.commands.inference.rerank import rerank
from headmix.cli.commands.inference.tokenize import tokenize
from headmix.cli.commands.jobs.jobs import jobs_app
from headmix.cli.commands.models import models
from headmix.cli.commands.tenants.keys import keys_app
from headmix.cli.commands.tenants.tenants import tenants_app
from headmix.cli.commands.usage import usage
from headmix.cli.plugins import add_plugins
from headmix.cli.session import Session
from headmix.config import API_KEY_VARIABLE, BASE_URL_VARIABLE, DEFAULT_BASE_URL
from headmix.version import version


def build_app() -> typer.Typer:
    """Return the whole command tree of this installation."""
    app = typer.Typer(name="headmix", no_args_is_help=True, pretty_exceptions_enable=False)
    app.callback()(options)
    for command in (chat, complete, classify, embed, rerank, tokenize, models, usage, health):
        app.command()(command)
    app.add_typer(adapters_app, name="adapters")
    app.add_typer(files_app, name="files")
    app.add_typer(batches_app, name="batches")
    app.command("run-batch")(run_batch)
    app.add_typer(jobs_app, name="jobs")
    app.add_typer(tenants_app, name="tenants")
    app.add_typer(keys_app, name="keys")
    add_plugins(app)
    return app


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"headmix {version()}")
        raise typer.Exit


def options(
    ctx: typer.Context,
    base_url: Annotated[
        str | None, typer.Option(envvar=BASE_URL_VARIABLE, help=f"The server. Default: {DEFAULT_BASE_URL}")
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar=API_KEY_VARIABLE,
            help="Prefer the environment variable. Default: the key of a server started in this folder.",
        ),
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Serve, query, manage and train many adapters on one base model."""
    ctx.obj = Session.with_options(base_url, api_key)
