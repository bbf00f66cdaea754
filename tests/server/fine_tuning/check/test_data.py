"""The check itself, in this process: what it reads, and how it says what is wrong."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.adapters.artifacts import tiny_base_shape
from headmix_adapters.base import ResolvedBase
from headmix_adapters.train.data.formats.entry import Entry
from headmix_adapters.train.data.rows import read_entries
from headmix_server.fine_tuning.check import data
from headmix_server.fine_tuning.check.checked import Checked
from headmix_server.fine_tuning.check.data import check_data
from headmix_server.fine_tuning.request import DataFile, FineTuning

TEXTS = "".join(f'{{"text": "this is text {n}", "label": "{"even" if n % 2 == 0 else "odd"}"}}\n' for n in range(12))


@pytest.fixture
def base(base_folder: Path) -> ResolvedBase:
    return ResolvedBase("small", base_folder, tiny_base_shape())


def check(folder: Path, base: ResolvedBase, content: str, *, most_labels: int = 4096, **changes: Any) -> Checked:
    file = DataFile(id="file-1", digest="sha256:1", filename="data.jsonl", size_bytes=1)
    request = FineTuning(
        name="tone", base=base.name, fingerprint=base.shape.fingerprint, training=file, seed=1, actor="key_1", **changes
    )
    (folder / request.training_name).write_text(content)
    return check_data(request, folder, base, most_labels=most_labels)


def faults_of(checked: Checked) -> tuple[str, ...]:
    assert checked.error is not None
    return checked.error.faults


def test_the_look_for_a_usable_row_ends_after_a_few_faulty_ones_and_the_check_names_their_lines(
    tmp_path: Path, base: ResolvedBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def counted(path: Path) -> Iterator[Entry]:
        for entry in read_entries(path):
            seen.append(entry.line)
            yield entry

    monkeypatch.setattr(data, "read_entries", counted)
    (fault,) = faults_of(check(tmp_path, base, "x\n" * 2000 + TEXTS))
    assert fault.startswith("line 1: not a JSON object")
    assert fault.endswith("(and 1,999 more lines)")
    assert len(seen) == 20


def test_a_few_faulty_lines_before_the_first_row_are_the_only_faults_that_are_named(
    tmp_path: Path, base: ResolvedBase
) -> None:
    assert [fault.partition(":")[0] for fault in faults_of(check(tmp_path, base, "x\n[]\n" + TEXTS))] == [
        "line 1",
        "line 2",
    ]


def test_the_labels_that_a_file_may_have_are_those_that_an_adapter_may(tmp_path: Path, base: ResolvedBase) -> None:
    rows = "".join(f'{{"text": "this is text {n}", "label": "l{n}"}}\n' for n in range(1100))
    named = tuple(f"l{n}" for n in range(1100))
    asked = check(tmp_path, base, rows, labels=named).request
    assert asked is not None
    assert asked.labels == ()  # they are in the recipe, once
    assert asked.recipe is not None
    assert asked.recipe.classifier is not None
    assert asked.recipe.classifier.labels == named
    assert faults_of(check(tmp_path, base, rows)) == (
        "line 1001: more than 1,000 different labels (and 99 more lines)",
    )
    (fault,) = faults_of(check(tmp_path, base, rows, most_labels=9))
    assert fault.startswith("line 10: more than 9 different labels")


def test_labels_for_rows_to_generate_from_are_refused_instead_of_left_out(tmp_path: Path, base: ResolvedBase) -> None:
    rows = "".join(f'{{"prompt": "is {n} even?", "completion": "{n % 2 == 0}"}}\n' for n in range(12))
    assert check(tmp_path, base, rows).request is not None
    (fault,) = faults_of(check(tmp_path, base, rows, labels=("True", "False")))
    assert fault.startswith("line 1: labels are given, but the task is generation; ask for classification")
    (fault,) = faults_of(check(tmp_path, base, rows, problem="multi_label"))
    assert fault.startswith("line 1: a problem is given")
    asked = check(tmp_path, base, rows, labels=("True", "False"), task="classification").request
    assert asked is not None
    assert asked.task == "classification"
