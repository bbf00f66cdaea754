"""The commands `headmix serve` and `headmix train-worker`: one option per setting; flags override `HEADMIX_*`
variables, which override defaults.

The options are created from `Settings`, so the two cannot differ. Importing this module loads neither the web framework
nor the database, since `headmix --help` imports every command.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails, PydanticUndefined

from headmix_server.core.settings.groups import group_of, in_help_order
from headmix_server.core.settings.names import called, flag, variable
from headmix_server.core.settings.settings import Settings

USAGE = 2

_KINDS: Mapping[object, str] = {str: "TEXT", int: "N", float: "SECONDS", Path: "PATH", SecretStr: "URL"}


WORKER_SETTINGS = (
    *("base", "device", "data_dir", "database", "artifacts"),
    *("train_threads", "train_cores", "train_memory_mib"),
    *("train_checkpoint_seconds", "train_claim_seconds", "train_attempts"),
    *("log_level", "log_format"),
)
"""The settings that `headmix train-worker` has options for."""


def _with_options(settings: Iterable[str], **more: object) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for each setting, as text except for switches: only pydantic checks the values.

    `more` are annotations of further options, whose default is None.
    """
    options = {name: _option(name) for name in settings} | more

    def give(command: Callable[..., None]) -> Callable[..., None]:
        parameters = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
            for name, annotation in options.items()
        ]
        command.__dict__["__signature__"] = inspect.Signature(parameters)
        return command

    return give


def _option(name: str) -> object:
    field = Settings.model_fields[name]
    default = "none" if field.default in (None, PydanticUndefined) else str(field.default)
    help_text = f"{field.description} (default: {default}; {variable(name)})"
    panel = group_of(name)
    if field.annotation is bool:
        option = typer.Option(flag(name), help=help_text, show_default=False, rich_help_panel=panel)
        return Annotated[bool | None, option]
    shown = _metavar(field.annotation)
    option = typer.Option(flag(name), help=help_text, metavar=shown, show_default=False, rich_help_panel=panel)
    return Annotated[str | None, option]


def _metavar(annotation: object) -> str:
    """Return the help's placeholder for a value: its choices, or else its kind."""
    if get_origin(annotation) is Literal:
        return "|".join(get_args(annotation))
    kinds = [kind for kind in (*get_args(annotation), annotation) if kind in _KINDS]
    return _KINDS[kinds[0]] if kinds else "VALUE"


def read_settings(flags: Mapping[str, str | bool | None]) -> Settings:
    """Return the settings from the given flags, the environment and the defaults.

    Raises:
        ValidationError: a setting's value is invalid.
    """
    given: dict[str, Any] = {name: value for name, value in flags.items() if value is not None}
    return Settings(**given)


@_with_options(in_help_order(Settings.model_fields))
def serve(**flags: str | bool | None) -> None:
    """Serve the base and every tenant's adapters over HTTP until stopped (Ctrl-C, SIGTERM or SIGHUP)."""
    settings = _settings("serve", flags)
    from headmix_server.app.server import run

    raise typer.Exit(run(settings))


_METRICS_PORT = Annotated[
    int | None,
    typer.Option(min=0, max=65535, help="Serve the worker's metrics on this port of 127.0.0.1.", show_default=False),
]
_UNTIL_IDLE = Annotated[
    float | None,
    typer.Option(
        min=0, metavar="SECONDS", help="End after this long without a job. Default: never.", show_default=False
    ),
]


@_with_options(WORKER_SETTINGS, metrics_port=_METRICS_PORT, until_idle=_UNTIL_IDLE)
def train_worker(metrics_port: int | None, until_idle: float | None, **flags: str | bool | None) -> None:
    """Train fine-tuning jobs of a server, on any machine that reaches its database and files, until stopped.

    Ctrl-C or SIGTERM lets the running training keep a checkpoint and gives its job back; a second one ends it at once.
    """
    settings = _settings("train-worker", flags)
    from headmix_server.training.control import Control, obey_signals
    from headmix_server.training.run import WorkerRun, run_worker

    control = Control()
    obey_signals(control)
    metrics = None if metrics_port is None else ("127.0.0.1", metrics_port)
    raise typer.Exit(run_worker(settings, control, WorkerRun(until_idle=until_idle, metrics=metrics)))


def _settings(command: str, flags: Mapping[str, str | bool | None]) -> Settings:
    try:
        return read_settings(flags)
    except ValidationError as error:
        faults = "; ".join(map(fault, error.errors()))
        typer.echo(f"headmix {command}: {faults}", err=True)
        raise typer.Exit(USAGE) from None


def fault(detail: ErrorDetails) -> str:
    """Return the message about an invalid value of a setting."""
    name = str(detail["loc"][0]) if detail["loc"] else "settings"
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{called(name)} {message}{_value(name, detail['input'])}"


def _value(name: str, value: object) -> str:
    """Return the value for a message, unless it may contain a password or cannot be seen."""
    is_secret = Settings.model_fields[name].annotation == SecretStr | None if name in Settings.model_fields else True
    return "" if is_secret or value == "" else f", not {value!r}"


def main() -> None:
    """Run only the server's part of the `headmix` command, as in `python -m headmix_server.cli serve`."""
    app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
    app.callback()(_headmix)
    app.command()(serve)
    app.command()(train_worker)
    app(prog_name="headmix")


def _headmix() -> None:
    """Serve adapters on one base model."""


if __name__ == "__main__":
    main()
