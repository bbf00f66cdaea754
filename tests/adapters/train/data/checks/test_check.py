"""A file is checked whole: every fault with its line, counts of what it has, in bounded memory and time."""

import json
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import run
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headmix_adapters.text.base_text import BaseText
from headmix_adapters.text.chat_template import ChatTemplate
from headmix_adapters.train.data.checks.check import Purpose, check_file
from headmix_adapters.train.data.checks.limits import FileLimits
from headmix_adapters.train.data.checks.report import FileReport
from headmix_adapters.train.data.examples import encode_generation
from headmix_adapters.train.data.forms.training_rows import read_training_rows
from headmix_adapters.train.data.held_out import split_rows
from headmix_adapters.train.errors import DataError

TURNS = [{"role": "user", "content": "A fox?"}, {"role": "assistant", "content": "A dog."}]
CHAT = {"messages": TURNS}
Checker = Callable[..., FileReport]


@pytest.fixture
def check(tmp_path: Path) -> Checker:
    """Return a function that checks a file of these rows; a text is a line as it is."""

    def checked(*rows: object, limits: FileLimits | None = None, **purpose: Any) -> FileReport:
        path = tmp_path / "data.jsonl"
        path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
        return check_file(path, Purpose(**purpose), limits=limits)

    return checked


def lines(report: FileReport) -> list[tuple[int | None, int]]:
    return [(fault.line, fault.lines) for fault in report.faults]


def template(content: str) -> ChatTemplate:
    begun = "{% if add_generation_prompt %}<assistant>{% endif %}"
    return ChatTemplate(f"{{% for m in messages %}}<{{{{ m.role }}}}>{content}{{% endfor %}}{begun}", {})


def test_a_good_file_is_counted(check: Checker, base_text: BaseText) -> None:
    report = check(CHAT, CHAT | {"weight": 0}, {"messages": [*TURNS, *TURNS]}, learn="all", base=base_text)
    assert (report.ok, report.complete, report.rows, report.examples, report.excluded) == (True, True, 3, 3, 1)
    texts = check({"text": "x" * 40, "label": 1}, {"text": "y", "label": "0"}, {"text": "y", "label": 1})
    assert (texts.labels, texts.tokens, texts.ok) == ({"1": 2, "0": 1}, 10, True)
    assert json.loads(json.dumps(texts.to_dict()))["labels"] == {"1": 2, "0": 1}


@given(
    texts=st.lists(st.sampled_from("ab"), min_size=1, max_size=4),
    shape=st.sampled_from(["text", "chat", "prompt", "label chat"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_is_of_one_question_exactly_if_no_part_of_it_can_be_held_out(
    check: Checker, tmp_path: Path, texts: list[str], shape: str
) -> None:
    labelled = shape in ("text", "label chat")
    rows = [one_row(shape, text, answer=f"a{number % 2}") for number, text in enumerate(texts)]
    report = check(*rows, task="classification" if labelled else "generation")
    read = read_training_rows(tmp_path / "data.jsonl", "single_label" if labelled else None, ()).rows
    if report.same_question:
        with pytest.raises(DataError, match="all rows ask the same"):
            split_rows(read, 0.5, seed=1)
    else:
        assert all(split_rows(read, 0.5, seed=1))


def one_row(shape: str, text: str, answer: str) -> dict[str, Any]:
    if shape == "text":
        return {"text": text, "label": answer}
    if shape == "prompt":
        return {"prompt": text, "completion": answer}
    return {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]}


def test_the_estimate_is_near_what_training_reads(tmp_path: Path, base_text: BaseText) -> None:
    path = tmp_path / "data.jsonl"
    rows = [{"messages": [TURNS[0], TURNS[1] | {"content": "The quick brown fox. " * n}]} for n in range(1, 30)]
    path.write_text("\n".join(map(json.dumps, rows)))
    real = encode_generation(read_training_rows(path, None, ()).rows, base_text, 10_000).tokens
    assert check_file(path, Purpose(base=base_text)).tokens == pytest.approx(real, rel=0.05)


def test_every_faulty_line_is_told_and_equal_faults_once(check: Checker) -> None:
    odd = CHAT | {"soucre": 1}
    report = check(CHAT, "{", odd, {"messages": TURNS[:1]}, odd, "[1]", CHAT)
    assert lines(report) == [(2, 1), (3, 2), (4, 1), (6, 1)]
    assert str(report.faults[1]).startswith("line 3: field 'soucre' is not supported")
    assert str(report.faults[1]).endswith("(and 1 more line)")
    assert report.faults[2].message == "messages must end with the assistant's answer to something"
    assert (report.rows, report.examples, report.complete) == (7, 2, True)


def test_a_template_that_refuses_a_chat_is_a_fault_of_its_line(check: Checker, base_text: BaseText) -> None:
    refusal = "{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}{{ m.content }}"
    system = {"messages": [{"role": "system", "content": "x"}, *TURNS]}
    report = check(CHAT, system, base=replace(base_text, chat_template=template(refusal)))
    assert lines(report) == [(2, 1)]
    assert "no system" in report.faults[0].message


def test_ignored_fields_are_counted(check: Checker) -> None:
    noted = [TURNS[0], TURNS[1] | {"id": "m"}]
    report = check(CHAT | {"id": 1}, {"messages": noted}, CHAT | {"id": None}, CHAT, ignore=("id", "other"))
    assert (report.ok, report.ignored) == (True, {"id": 2})


@pytest.mark.parametrize(
    ("rows", "purpose", "message"),
    [
        ([CHAT | {"weight": 0}], {}, "nothing to learn"),
        ([{"text": "x", "label": "a"}] * 2, {}, "all rows have the label 'a'"),
        ([], {}, "no rows"),
        ([{"text": "x"}], {}, "a row has text and label"),
        ([{"text": "x", "label": "a"}], {"labels": ("b", "c")}, "label 'a' is not one of the 2 given"),
        ([{"text": "x", "label": "a"}], {"problem": "regression"}, 'label is "a", not a finite number'),
        ([{"text": "x", "label": "a"}], {"task": "generation"}, "field 'text' is not supported"),
        (
            [{"input": {"messages": TURNS[:1]}, "preferred_output": TURNS[1:], "non_preferred_output": TURNS[1:]}],
            {},
            "field 'preferred_output' is of preference data (DPO), which is not trained on",
        ),
        ([{"messages": TURNS, "parallel_tool_calls": 1}], {}, "parallel_tool_calls is 1"),
        ([CHAT] * 2, {"labels": ("A dog.", "A cat.")}, "labels are given, but the task is generation"),
        ([CHAT], {"problem": "multi_label"}, "a problem is given, but the task is generation; ask for classification"),
    ],
)
def test_a_file_that_cannot_be_trained_on_has_a_fault(
    check: Checker, rows: list[object], purpose: dict[str, Any], message: str
) -> None:
    report = check(*rows, **purpose)
    assert not report.ok
    assert message in report.faults[0].message


def test_chats_become_texts_with_labels_when_asked(check: Checker) -> None:
    system = {"role": "system", "content": "Which animal?"}
    cat = {"role": "assistant", "content": "A cat."}
    report = check({"messages": [system, *TURNS]}, {"messages": [system, TURNS[0], cat]}, task="classification")
    assert (report.labels, report.ok) == ({"A dog.": 1, "A cat.": 1}, True)
    assert report.notes == ("the system message of 2 rows is left out: a classifier is served the text alone",)


def test_blanks_around_labels_do_not_count(check: Checker) -> None:
    report = check({"text": "x", "label": " spam"}, {"text": "y", "label": "spam "}, {"text": "z", "label": "ham"})
    assert (report.labels, report.ok) == ({"spam": 2, "ham": 1}, True)


def test_labels_that_are_one_number_in_two_spellings_are_told(check: Checker) -> None:
    report = check({"text": "x", "label": "1"}, {"text": "x", "label": "1.0"})
    assert report.notes == ("the labels '1' and '1.0' are one number, but are learned as two labels",)


@pytest.mark.parametrize(
    ("label", "fault"),
    [("x" * 257, "is longer than 256 characters"), (" ", "is empty"), ("a\u0007", "holds control characters")],
)
def test_a_label_that_no_artifact_may_have_is_named_before_training(check: Checker, label: str, fault: str) -> None:
    report = check({"text": "x", "label": "a"}, {"text": "y", "label": label})
    (found,) = report.faults
    assert found.line == 2
    assert fault in found.message


def test_labels_that_are_too_long_together_are_refused_with_the_line(check: Checker) -> None:
    rows = [{"text": f"text {n}", "label": f"{n}".rjust(256, "x")} for n in range(513)]
    (found,) = check(*rows).faults
    assert (found.line, found.message) == (513, "all labels together are longer than 131,072 characters")


@pytest.mark.parametrize(
    ("limits", "line", "message"),
    [
        (FileLimits(rows=3), 4, "more than 3 rows"),
        (FileLimits(seconds=-1.0), 1, "the file is too large"),
        (FileLimits(row_chars=60), 1, "longer than 60 characters"),
        (FileLimits(row_text=10), 1, "longer than 10 characters together"),
    ],
)
def test_limits_end_the_check_with_the_line(check: Checker, limits: FileLimits, line: int, message: str) -> None:
    report = check(*[CHAT] * 9, limits=limits)
    assert report.faults[0].line == line
    assert message in report.faults[0].message


def test_a_chat_whose_answers_grow_with_the_square_of_its_length_is_refused_before_it_is_rendered(
    check: Checker, base_text: BaseText
) -> None:
    answers = [{"role": "assistant", "content": "y" * 10, "weight": 1}] * 10_000
    refusing = replace(base_text, chat_template=ChatTemplate("{{ raise_exception('rendered') }}", {}))
    report = check({"messages": [TURNS[0], *answers]}, base=refusing)
    assert "longer than 16,777,216 characters together" in report.faults[0].message


def test_a_template_that_writes_more_than_it_reads_is_refused(check: Checker, base_text: BaseText) -> None:
    long = replace(base_text, chat_template=template("{{ m.content * 10000 }}"))
    report = check(CHAT, base=long, limits=FileLimits(row_text=9999))
    assert "longer than 9,999 characters together" in report.faults[0].message


def test_different_faults_and_labels_are_bounded(check: Checker) -> None:
    report = check(*({"messages": TURNS, f"f{number}": 1} for number in range(200)), limits=FileLimits(faults=5))
    assert (len(report.faults), report.complete, report.rows) == (5, False, 5)
    labels = check(*({"text": "x", "label": number} for number in range(20)), limits=FileLimits(labels=7))
    assert lines(labels) == [(8, 13)]
    assert len(labels.labels) == 7


def test_deep_nesting_and_one_line_of_many_megabytes_are_faults_of_their_lines(check: Checker) -> None:
    report = check(CHAT, '{"messages": ' + "[" * 100_000, "x" * 20_000_000, CHAT)
    assert lines(report) == [(2, 1), (3, 1)]
    assert report.examples == 2


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv"])
def test_a_file_of_one_endless_line_takes_little_memory(tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "upload"
    path.write_text({"jsonl": "", "json": '[{"text": "', "csv": 'text,label\n"'}[kind] + "x" * 10_000)
    with path.open("r+b") as file:
        file.truncate(100_000_000)
    tracemalloc.start()
    try:
        report = check_file(path, kind=kind)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()
    assert not report.ok


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200), kind=st.sampled_from(["jsonl", "json", "csv", "tsv"]))
def test_whatever_a_file_holds_gives_a_report(tmp_path: Path, content: bytes, kind: Any) -> None:
    path = tmp_path / "upload"
    path.write_bytes(content)
    report = check_file(path, kind=kind)
    assert report.ok == (not report.faults)
    assert report.ok <= (report.examples > 0)


def test_a_missing_file_and_an_unknown_ending_are_faults(tmp_path: Path) -> None:
    assert "No such file" in check_file(tmp_path / "gone.jsonl").faults[0].message
    (tmp_path / "a.txt").touch()
    assert "data files end in .jsonl" in check_file(tmp_path / "a.txt").faults[0].message


def test_the_check_loads_no_torch() -> None:
    program = (
        "import sys; from headmix_adapters.train.data.checks.check import check_file; print('torch' in sys.modules)"
    )
    assert run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "False\n"
