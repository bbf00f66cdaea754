"""The check itself: whether a job's files can be trained on, and the recipe that trains on them.

Runs in the process of `__main__`: a chat template may take any time over a stranger's messages. Loads no torch.
"""

import dataclasses
from itertools import islice
from pathlib import Path

import msgspec

from headmix_adapters.base import BaseError, ResolvedBase, base_positions
from headmix_adapters.config import Problem
from headmix_adapters.families import can_generate, usual_pooling
from headmix_adapters.text.base_text import read_base_text
from headmix_adapters.train.adapter_spec import adapted_layers, adapter_config
from headmix_adapters.train.data.checks.check import Purpose, check_file
from headmix_adapters.train.data.checks.limits import FileLimits
from headmix_adapters.train.data.checks.report import FileReport
from headmix_adapters.train.data.conversation import Learn
from headmix_adapters.train.data.formats.entry import UnreadableError
from headmix_adapters.train.data.forms.openai_form import in_openai_form
from headmix_adapters.train.data.forms.task import problem_of, task_of
from headmix_adapters.train.data.held_out import SAME_QUESTION
from headmix_adapters.train.data.labels import blanks_fault, in_order
from headmix_adapters.train.data.rows import Row, read_entries
from headmix_adapters.train.errors import DataError, RecipeError
from headmix_adapters.train.recipe.quick_recipe import Wishes, quick_recipe
from headmix_adapters.train.recipe.recipe import DataTable, Recipe
from headmix_server.fine_tuning.check.checked import Checked
from headmix_server.fine_tuning.hyperparameters import resolve, training_keys
from headmix_server.fine_tuning.request import Counts, FineTuning
from headmix_server.fine_tuning.result import JobError

LEARN: Learn = "all"
"""Every answer of a conversation is learned unless the data says otherwise, as in OpenAI's fine-tuning."""

_SHOWN_FAULTS = 20
_FAULTY_FIRST = 20
"""Reading on for a usable row would escape the limits of the check, and the file is refused anyway."""


class _Refused(Exception):
    def __init__(self, error: JobError) -> None:
        super().__init__(error.message)
        self.error = error


def check_data(request: FineTuning, folder: Path, base: ResolvedBase, *, most_labels: int) -> Checked:
    """Check the files of a request, which are in a folder, for a base whose adapters may have so many labels."""
    try:
        return _check(request, folder, base, _file_limits(request, most_labels))
    except _Refused as refused:
        return Checked(error=refused.error)
    except (RecipeError, DataError, BaseError) as error:
        return Checked(error=JobError(code="invalid_request_error", message=str(error), param="headmix"))


def _file_limits(request: FineTuning, most_labels: int) -> FileLimits:
    usual = FileLimits()
    return dataclasses.replace(usual, labels=min(most_labels, max(usual.labels, len(request.labels))))


def _check(request: FineTuning, folder: Path, base: ResolvedBase, limits: FileLimits) -> Checked:
    purpose = _purpose(request, folder, base)
    report = _read(folder / request.training_name, purpose, limits, "training_file", request.training.filename)
    labels = request.labels or _labels(purpose.problem, report)
    held_out = None
    if request.validation is not None and (name := request.validation_name) is not None:
        known = labels if purpose.task == "classification" and purpose.problem != "regression" else ()
        same = dataclasses.replace(purpose, labels=known)
        held_out = _read(folder / name, same, limits, "validation_file", request.validation.filename).examples
    elif report.same_question:
        raise _refused("training_file", request.training.filename, (SAME_QUESTION,))
    share = DataTable(train="").eval_share
    examples = report.examples if held_out is not None else max(1, round(report.examples * (1 - share)))
    task = purpose.task or "generation"
    resolved = resolve(request.hyperparameters, task, examples)
    done = msgspec.structs.replace(
        request,
        task=task,
        problem=purpose.problem if task == "classification" else None,
        labels=labels if task == "classification" else (),
        hyperparameters=resolved,
        counts=Counts(examples=examples, tokens=report.tokens, held_out=held_out),
    )
    # The recipe has the labels, and many of them are large.
    return Checked(request=msgspec.structs.replace(done, recipe=_recipe(done, base), labels=()), notes=report.notes)


def _purpose(request: FineTuning, folder: Path, base: ResolvedBase) -> Purpose:
    """Return what the files are for: what was requested, or else what the first row shows.

    Without a usable row among the first, the check of the whole file says what is wrong with them, on which lines.
    """
    first = _first_row(request, folder / request.training_name)
    task = request.task or (None if first is None else task_of(first))
    if task == "generation" and not can_generate(base.shape.model_type):
        raise RecipeError(f"{base.name} is an encoder: it classifies and cannot generate")
    if (fault := blanks_fault(request.labels)) is not None:
        raise RecipeError(fault)
    problem = request.problem
    if problem is None and first is not None and task == "classification":
        problem = problem_of(first)
    return Purpose(task, problem, request.labels, request.ignore, LEARN, read_base_text(base.folder))


def _first_row(request: FineTuning, path: Path) -> Row | None:
    """Return the first usable row, or None: faulty rows are passed over only as long as there are few."""
    try:
        for entry in islice(read_entries(path), _FAULTY_FIRST):
            if entry.fields is not None:
                row = in_openai_form(Row(f"line {entry.line}", entry.fields), request.ignore)
                if request.task is None:
                    task_of(row)
                return row
    except (UnreadableError, DataError):
        pass
    return None


def _read(path: Path, purpose: Purpose, limits: FileLimits, param: str, filename: str) -> FileReport:
    report = check_file(path, purpose, limits=limits)
    if report.ok:
        return report
    raise _refused(param, filename, tuple(str(fault) for fault in report.faults))


def _refused(param: str, filename: str, faults: tuple[str, ...]) -> _Refused:
    more = f" (and {len(faults) - 1} more faults)" if len(faults) > 1 else ""
    message = f"{filename}: {faults[0]}{more}"
    return _Refused(JobError(code=f"invalid_{param}", message=message, param=param, faults=faults[:_SHOWN_FAULTS]))


def _labels(problem: Problem | None, report: FileReport) -> tuple[str, ...]:
    return ("value",) if problem == "regression" else in_order(report.labels)


def _recipe(request: FineTuning, base: ResolvedBase) -> Recipe:
    """Return the recipe, with the data files' names in a worker's folder; its base is this machine's."""
    positions = base_positions(base)
    if positions is not None and request.max_length is not None and request.max_length > positions:
        raise RecipeError(f"max_length is {request.max_length}, but {base.name} has {positions} positions")
    task, classifies = request.task or "generation", request.task == "classification"
    wishes = Wishes(
        name=request.name,
        base=request.base,
        train=request.training_name,
        eval=request.validation_name,
        task=task,
        labels=request.labels,
        problem=request.problem if classifies else None,
        pooling=usual_pooling(can_generate(base.shape.model_type)) if classifies else None,
        max_length=request.max_length,
        positions=positions,
        ignore=request.ignore,
        training=training_keys(request.hyperparameters, task, request.seed),
    )
    recipe = quick_recipe(wishes, ())
    if request.adapter is not None:
        recipe = msgspec.structs.replace(recipe, adapter=request.adapter)
    if task == "generation":
        recipe = msgspec.structs.replace(recipe, data=msgspec.structs.replace(recipe.data, learn=LEARN))
    adapter_config(recipe, base.shape)
    adapted_layers(recipe, base.shape)
    return recipe
