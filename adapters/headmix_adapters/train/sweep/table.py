"""A sweep's runs as a table: the values of each, and its held-out scores."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headmix_adapters.train.sweep.sweep import SweepResult
from headmix_adapters.train.terminal.progress import readable

_SHOWN = ("accuracy", "macro_f1", "mean_squared_error", "answer_nll", "answer_perplexity", "loss")


def print_sweep(console: Console, sweep: SweepResult) -> None:
    """Print a line per run, the best one marked, and what to write into the recipe."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in sweep.best.values:
        table.add_column(Text(name.replace("_", " ")), justify="right")
    evaluations = [outcome.adapter for _, outcome in sweep.outcomes if outcome.adapter is not None]
    names = [name for name in _SHOWN if any(name in one.scores for one in evaluations)]
    for name in names:
        table.add_column(Text(readable(name)), justify="right")
    table.add_column("")
    for candidate, outcome in sweep.outcomes:
        values = [value if isinstance(value, str) else f"{value:g}" for value in candidate.values.values()]
        scores = {} if outcome.adapter is None else outcome.adapter.scores
        cells = [f"{scores[name]:.4g}" if name in scores else "-" for name in names]
        mark = "diverged" if outcome.adapter is None else "best" if candidate is sweep.best else ""
        table.add_row(*map(Text, (*values, *cells, mark)))
    console.print(table)
    console.print(f"best: {sweep.best.label}", highlight=False, soft_wrap=True, markup=False)
