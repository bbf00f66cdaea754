"""A run's summary as a table: each score of the base, the linear classifier and the adapter, and each label's F1."""

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from headmix_adapters.artifact.faults import quoted
from headmix_adapters.train.prepare import Material
from headmix_adapters.train.save import Result
from headmix_adapters.train.scoring.evaluate import Evaluation
from headmix_adapters.train.terminal.progress import readable

MAX_LABELS = 30
"""With more labels, only those with the adapter's worst scores are shown."""
_UNBOUNDED_WIDTH = 10_000
_COUNTS = ("answer_tokens", "decoded_answers", "asked_texts")


def print_closing(console: Console, material: Material, result: Result) -> None:
    """Print a run's scores side by side, the remarks on them, and where the artifact is."""
    print_table(console, material, {"base": result.base, "linear classifier": result.probe, "adapter": result.adapter})
    for warning in result.warnings:
        _say(console, f"warning: {warning}")
    for advice in result.advice:
        _say(console, f"advice: {advice}")
    _say(console, f"wrote {result.artifact} ({result.artifact.stat().st_size:,} bytes, {result.digest})")


def print_table(console: Console, material: Material, columns: Mapping[str, Evaluation | None]) -> None:
    """Print the available evaluations side by side; the last is the adapter's.

    The lines of a table wider than the terminal are not cut; the terminal wraps them.
    """
    present = {name: evaluation for name, evaluation in columns.items() if evaluation is not None}
    kinds, adapter = "texts" if material.recipe.classifier else "answers", list(present.values())[-1]
    title = Text(f"held out: {len(material.eval.examples):,} {kinds} of {material.files['eval'].name}")
    table = Table("", title=title, title_justify="left", title_style="", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in present:
        table.add_column(name, justify="right")
    for name in _score_names(list(present.values())):
        cells = (_cell(evaluation.scores.get(name), name) for evaluation in present.values())
        table.add_row(Text(readable(name)), *cells)
    for label in _labels(adapter):
        cells = (_cell(evaluation.label_f1.get(label), "f1") for evaluation in present.values())
        table.add_row(Text(f"F1 of {quoted(label)}"), *cells)
    if (hidden := len(adapter.label_f1) - MAX_LABELS) > 0:
        table.caption = Text(f"and {hidden} labels with a higher F1")
    needed = Measurement.get(console, console.options.update(max_width=_UNBOUNDED_WIDTH), table).maximum
    console.print(table, soft_wrap=True, width=max(console.width, needed))


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True, markup=False)


def _score_names(evaluations: Sequence[Evaluation]) -> list[str]:
    return list(dict.fromkeys(name for evaluation in reversed(evaluations) for name in evaluation.scores))


def _labels(adapter: Evaluation) -> list[str]:
    names = list(adapter.label_f1)
    return names if len(names) <= MAX_LABELS else sorted(names, key=adapter.label_f1.__getitem__)[:MAX_LABELS]


def _cell(value: float | None, name: str) -> Text:
    if value is None:
        return Text("-")
    return Text(f"{value:,.0f}" if name in _COUNTS else f"{value:.4g}" if value >= 10 else f"{value:.3f}")
