"""A batch's file is checked as a whole, each fault with its line, in bounded memory whatever it contains."""

import io
import json
from typing import Any

import pytest

from headmix_server.batches.input_file import (
    LONGEST_ADAPTERS,
    LONGEST_MODEL,
    MOST_FAULTS,
    MOST_MODELS,
    PART_LINES,
    Bounds,
    Checked,
    check_file,
    check_in_parts,
    read_lines,
)

CHAT = "/v1/chat/completions"
BOUNDS = Bounds(lines=100, body_mib=1)


def line(custom_id: str = "a", **changes: Any) -> bytes:
    whole = {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": {"model": "m", "messages": []}}
    return json.dumps({**whole, **changes}).encode() + b"\n"


def check(*lines: bytes, bounds: Bounds = BOUNDS) -> Checked:
    return check_file(io.BytesIO(b"".join(lines)), CHAT, bounds)


def test_a_good_file_has_its_requests_and_models_counted() -> None:
    adapters = {"model": "base", "adapters": [{"name": "x", "scale": 2}, {"name": "y"}]}
    checked = check(b"\xef\xbb\xbf" + line("a"), b"\r\n", line("b", body=adapters), line("c").strip())
    assert (checked.total, list(checked.models), checked.faults) == (3, ["m", "base", "x", "y"], [])


@pytest.mark.parametrize(
    ("text", "code", "param"),
    [
        (line(custom_id="first"), "duplicate_custom_id", "custom_id"),
        (line(custom_id=""), "invalid_custom_id", "custom_id"),
        (line(custom_id="x" * 513), "invalid_custom_id", "custom_id"),
        (line(custom_id=7), "invalid_json_line", "custom_id"),  # type: ignore[arg-type]  # a client's mistake
        (line(method="GET"), "invalid_method", "method"),
        (line(url="/v1/embeddings"), "mismatched_url", "url"),
        (line(body=[1]), "invalid_body", "body"),
        (line(body={"model": "m", "stream": True}), "unsupported_parameter", "body.stream"),
        (line(priority=3), "invalid_json_line", None),
        (b'{"custom_id": "x", "method": "POST"}\n', "invalid_json_line", None),
        (b"{not json\n", "invalid_json_line", None),
        (b"\x00\x89PNG\xff\xfe\n", "invalid_json_line", None),
        (b"[" * 200_000 + b"\n", "invalid_json_line", None),
    ],
)
def test_each_fault_is_named_with_its_line(text: bytes, code: str, param: str | None) -> None:
    checked = check(line("first"), text, line("last"))
    assert [(fault.code, fault.line, fault.param) for fault in checked.faults] == [(code, 2, param)]


def test_what_a_body_says_is_left_to_its_route() -> None:
    odd = line("b").replace(b'{"model": "m"', b'{"model": {"no": "name"}')
    assert check(line("a", body={"model": 3}), odd).faults == []


class Endless(io.RawIOBase):
    """A file that never ends, of one line or of many."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.read_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = (self.text * (len(buffer) // len(self.text) + 1))[: len(buffer)]
        buffer[:] = block
        self.read_bytes += len(block)
        return len(block)


@pytest.mark.parametrize(
    ("text", "code"), [(b"x", "line_too_long"), (b"{}\n", "invalid_json_line")], ids=["line", "lines"]
)
def test_a_poisoned_file_is_refused_before_it_is_read(text: bytes, code: str) -> None:
    file = Endless(text)
    checked = check_file(io.BufferedReader(file), CHAT, BOUNDS)
    assert checked.faults[-1].code == code
    assert len(checked.faults) <= MOST_FAULTS
    assert file.read_bytes < 3 * BOUNDS.line_bytes


def test_too_many_lines_are_refused_at_the_first_that_is_too_much() -> None:
    checked = check(*(line(str(n)) for n in range(200)))
    assert [(fault.code, fault.line) for fault in checked.faults] == [("too_many_lines", 101)]


def test_too_many_models_are_refused_with_the_line() -> None:
    many = Bounds(lines=10_000, body_mib=1)
    checked = check(*(line(str(n), body={"model": f"m{n}"}) for n in range(MOST_MODELS + 2)), bounds=many)
    assert (checked.faults[0].code, checked.faults[0].line) == ("too_many_models", MOST_MODELS + 1)


def test_too_many_blank_lines_are_refused_before_the_rest_is_read() -> None:
    file = Endless(b" \n")
    checked = check_file(io.BufferedReader(file), CHAT, BOUNDS)
    assert [(fault.code, fault.line) for fault in checked.faults] == [("too_many_lines", 101)]
    assert file.read_bytes < BOUNDS.line_bytes
    assert check(*(b"\n" + line(str(n)) for n in range(100))).faults == []


def test_a_name_that_no_adapter_can_have_is_not_kept() -> None:
    names = ["x" * LONGEST_MODEL, "x" * (LONGEST_MODEL + 1), "p\u00f6t", "a\nb"]
    several = [{"name": name} for name in names]
    checked = check(*(line(str(n), body={"model": name, "adapters": several}) for n, name in enumerate(names)))
    assert (list(checked.models), checked.faults) == (names[:1], [])


def test_a_list_of_adapters_that_is_far_too_long_is_refused_unread() -> None:
    (fault,) = check(line("a", body={"model": "m", "adapters": [{}] * LONGEST_ADAPTERS})).faults
    assert (fault.code, fault.param) == ("invalid_body", "body.adapters")


def test_a_long_file_is_checked_in_parts() -> None:
    lines = [*(line(str(n)) for n in range(PART_LINES)), line("0"), *(b"\n" for _ in range(PART_LINES)), line("last")]
    checked, totals = Checked(), list[int]()
    parts = check_in_parts(io.BytesIO(b"".join(lines)), CHAT, Bounds(lines=10_000, body_mib=1), checked)
    for _ in parts:
        totals.append(checked.total)
    assert (totals, checked.total) == ([PART_LINES, PART_LINES + 1], PART_LINES + 2)
    assert [(fault.code, fault.line) for fault in checked.faults] == [("duplicate_custom_id", PART_LINES + 1)]


def test_lines_that_are_answered_are_not_read_again() -> None:
    file = io.BytesIO(b"\n" + b"".join(line(name) for name in "abc"))
    assert [read.custom_id for read in read_lines(file, BOUNDS, skipped={2, 4})] == ["b"]


def test_an_empty_file_is_refused() -> None:
    assert [(fault.code, fault.line) for fault in check(b"\n", b"  \n").faults] == [("empty_file", None)]


def test_bodies_are_passed_on_byte_for_byte() -> None:
    body = b'{ "model":"m", "temperature": 0.10, "n":1e0 }'
    text = b'{"custom_id":"a","method":"POST","url":"%s","body":%s}\n' % (CHAT.encode(), body)
    (read,) = read_lines(io.BytesIO(b"\n" + text), BOUNDS)
    assert (read.number, read.custom_id, read.body) == (2, "a", body)
