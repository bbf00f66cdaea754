"""A job's figures by step as the CSV file that OpenAI's users know."""

import csv
import io
from collections.abc import Iterable, Mapping

COLUMNS = (
    "step",
    "train_loss",
    "train_accuracy",
    "valid_loss",
    "valid_mean_token_accuracy",
    "full_valid_loss",
    "full_valid_mean_token_accuracy",
)
FILENAME = "step_metrics.csv"
_OTHER_NAMES = {"train_accuracy": "train_mean_token_accuracy"}


def step_metrics_csv(steps: Iterable[Mapping[str, object]]) -> str:
    """Return the figures, one line for each step; what was not measured is empty."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([_figure(step, name) for name in COLUMNS] for step in steps)
    return text.getvalue()


def _figure(step: Mapping[str, object], name: str) -> object:
    value = step.get(name, step.get(_OTHER_NAMES.get(name, name)))
    return "" if value is None else value
