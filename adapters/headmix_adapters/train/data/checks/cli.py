"""The `headmix validate-data` command: checks a data file whole. Does not load torch."""

import json
from pathlib import Path
from typing import Annotated

import typer

from headmix_adapters.artifact.faults import quoted
from headmix_adapters.base import BaseError, resolve_base
from headmix_adapters.config import Problem, Task
from headmix_adapters.text.base_text import BaseText, read_base_text
from headmix_adapters.text.chat_template import ChatTemplateError
from headmix_adapters.text.tokenizer import TokenizerError
from headmix_adapters.train.data.checks.check import Purpose, check_file
from headmix_adapters.train.data.checks.report import FileReport
from headmix_adapters.train.data.conversation import Learn
from headmix_adapters.train.data.held_out import SAME_QUESTION
from headmix_adapters.train.data.rows import FileFormat

_FAULTY = 2
_SHOWN_LABELS = 20


def validate_data(
    file: Annotated[Path, typer.Argument(help="A data file of `headmix train`.")],
    task: Annotated[Task | None, typer.Option(help="Default: what the first row is for.")] = None,
    problem: Annotated[Problem | None, typer.Option(help="Default: multi_label for `labels`.")] = None,
    labels: Annotated[str | None, typer.Option(help="The only labels, comma-separated. Default: any.")] = None,
    ignore: Annotated[str | None, typer.Option(help="Fields of the data to ignore, comma-separated.")] = None,
    learn: Annotated[Learn, typer.Option(help="Answers of a chat that are learned if none is marked.")] = "last",
    base: Annotated[
        str | None, typer.Option(help="The base: its chat template renders every chat, its tokenizer counts.")
    ] = None,
    kind: Annotated[FileFormat | None, typer.Option("--format", help="Default: the file's extension.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Check a data file whole, without training: every fault with its line, and what the file has.

    Exit status 2 if there is a fault.
    """
    purpose = Purpose(task, problem, _names(labels), _names(ignore), learn, None if base is None else _base_text(base))
    report = check_file(file, purpose, kind=kind)
    if as_json:
        typer.echo(json.dumps(report.to_dict(), ensure_ascii=False, indent=2))
    else:
        _print(file, report, estimated=base is None)
    if not report.ok:
        raise typer.Exit(_FAULTY)


def _print(file: Path, report: FileReport, *, estimated: bool) -> None:
    for fault in report.faults:
        place = file if fault.line is None else f"{file}:{fault.line}"
        typer.echo(f"{place}: {fault.message}{fault.others}", err=True)
    if not report.complete and report.faults:
        typer.echo(f"{file}: not read further", err=True)
    for note in report.notes:
        typer.echo(f"{file}: {note}", err=True)
    if report.same_question and report.ok:
        typer.echo(f"{file}: {SAME_QUESTION}", err=True)
    for name, count in report.ignored.items():
        typer.echo(f"{file}: field {quoted(name)!r} of {count:,} rows is ignored", err=True)
    about = "four characters a token" if estimated else "by the base's tokenizer"
    typer.echo(
        f"{report.rows:,} rows, {report.examples:,} examples, {report.excluded:,} rows not learned, "
        f"about {report.tokens:,} tokens ({about})"
    )
    common = sorted(report.labels.items(), key=lambda pair: -pair[1])
    for label, count in common[:_SHOWN_LABELS]:
        typer.echo(f"{count:>9,}  {quoted(label)}")
    if len(common) > _SHOWN_LABELS:
        typer.echo(f"and {len(common) - _SHOWN_LABELS:,} other labels")


def _base_text(name: str) -> BaseText:
    try:
        return read_base_text(resolve_base(name).folder)
    except (BaseError, TokenizerError, ChatTemplateError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(_FAULTY) from error


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",")) if text else ()
