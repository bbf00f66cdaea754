"""The input of `headmix run-batch` is checked as a whole, each fault with its line."""

import json
from pathlib import Path
from typing import Any

import pytest

from headmix.run_batch.lines import MOST_FAULTS, check_lines, read_lines


def line(custom_id: object = "a", **changes: Any) -> bytes:
    whole = {"custom_id": custom_id, "method": "POST", "url": "/v1/completions", "body": {"model": "m"}}
    return json.dumps({**whole, **changes}).encode() + b"\n"


def written(folder: Path, *lines: bytes) -> Path:
    file = folder / "in.jsonl"
    file.write_bytes(b"".join(lines))
    return file


def test_a_good_file_is_read_line_by_line(tmp_path: Path) -> None:
    file = written(tmp_path, b"\xef\xbb\xbf", line("a"), b"\n", line("b", body={"x": "日"}))
    assert (check_lines(file).total, check_lines(file).faults) == (2, ())
    read = list(read_lines(file))
    assert [(one.custom_id, one.url, json.loads(one.body)) for one in read] == [
        ("a", "/v1/completions", {"model": "m"}),
        ("b", "/v1/completions", {"x": "日"}),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (line("first"), "that of line 1 too"),
        (line(7), "custom_id must be a text"),
        (line(method="GET"), "method must be POST"),
        (line(url="http://elsewhere/"), "url must be a route"),
        (line(body=3), "body must be a JSON object"),
        (line(body={"stream": True}), "cannot be streamed"),
        (line(more=1), "exactly custom_id, method, url and body"),
        (b"{no\n", "not JSON"),
        (b"\x00\xff\n", "not JSON"),
    ],
)
def test_each_fault_is_named_with_its_line(tmp_path: Path, text: bytes, reason: str) -> None:
    (fault,) = check_lines(written(tmp_path, line("first"), text, line("last"))).faults
    assert fault.startswith("line 2: ")
    assert reason in fault


def test_a_file_of_faults_is_not_read_to_its_end(tmp_path: Path) -> None:
    assert len(check_lines(written(tmp_path, b"no\n" * 1000)).faults) == MOST_FAULTS
    assert check_lines(written(tmp_path)).faults == ("the file has no requests",)
