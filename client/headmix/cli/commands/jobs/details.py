"""Owns how a fine-tuning job is shown: as fields, in a list, with its scores, and the command that asks its adapter."""

import json
import shlex
from collections.abc import Sequence

from headmix.cli.commands.jobs.follow_job import figures_of
from headmix.cli.output import moment, print_fields, print_table, say
from headmix.config import API_KEY_VARIABLE
from headmix.types.jobs.fine_tuning import FineTuningJob

_COLUMNS = ("base", "linear classifier", "adapter")


def print_job(job: FineTuningJob) -> None:
    """Print a job's fields and its scores."""
    error = job.error
    hyperparameters = ", ".join(f"{name} {value}" for name, value in job.hyperparameters.items())
    print_fields(
        (
            ("id", job.id),
            ("status", job.status),
            ("adapter", job.fine_tuned_model or job.headmix.name),
            ("task", job.headmix.task),
            ("created", moment(job.created_at)),
            ("ended", None if job.finished_at is None else moment(job.finished_at)),
            ("training", f"{hyperparameters}, seed {job.seed}"),
            ("progress", figures_of(job.headmix.progress) or None),
            ("trained tokens", job.trained_tokens),
            ("error", None if error is None else error.message),
            ("faults", None if error is None or len(error.faults) < 2 else "\n".join(error.faults)),
            ("files", "\n".join(job.result_files) or None),
        )
    )
    print_scores(job)


def print_jobs(found: Sequence[FineTuningJob]) -> None:
    """Print a table of jobs."""
    print_table(
        ("id", "adapter", "status", "created", "progress"),
        (
            (
                job.id,
                job.fine_tuned_model or job.headmix.name,
                job.status,
                moment(job.created_at),
                figures_of(job.headmix.progress) or None,
            )
            for job in found
        ),
    )


def print_scores(job: FineTuningJob) -> None:
    """Print the scores on the held-out data, of the adapter and of what it has to beat; then the warnings."""
    scores = job.headmix.scores
    columns = [name for name in _COLUMNS if name in scores]
    if columns:
        names = dict.fromkeys(name for column in columns for name in scores[column])
        rows = [(name, *(_figure(scores[column].get(name)) for column in columns)) for name in names]
        print_table(("held out", *columns), rows)
    for warning in job.headmix.warnings:
        say(f"warning: {warning}", err=True)


def curl_of(base_url: str, job: FineTuningJob) -> str:
    """Return a command that asks the version that a job made: its name alone may be answered by another one."""
    body: dict[str, object] = {"model": job.fine_tuned_model}
    if job.headmix.task == "classification":
        path, body["input"] = "/v1/classify", "a text"
    else:
        path, body["messages"] = "/v1/chat/completions", [{"role": "user", "content": "a question"}]
    data = shlex.quote(json.dumps(body))
    return (
        f'curl -s {shlex.quote(base_url + path)} -H "Authorization: Bearer ${API_KEY_VARIABLE}" '
        f"-H 'Content-Type: application/json' -d {data}"
    )


def _figure(value: float | None) -> str | None:
    return None if value is None else f"{value:.4g}"
