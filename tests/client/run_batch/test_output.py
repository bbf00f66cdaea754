"""The output of `headmix run-batch`: an interrupted file is continued."""

import json
from pathlib import Path

import pytest

from headmix.run_batch.output import Output


def test_a_half_written_line_is_removed_and_the_rest_counts(tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    with Output(file) as output:
        output.add("a", 200, "req_1", b'{"x": 1}')
        output.add("b", 404, None, b'{"error": {}}')
    with file.open("ab") as broken:
        broken.write(b'{"custom_id": "c", "respo')
    with Output(file) as output:
        assert (output.done, output.failed) == ({"a", "b"}, 1)
        output.add("c", 200, None, b"not json")
    answers = [json.loads(text) for text in file.read_bytes().splitlines()]
    assert [answer["custom_id"] for answer in answers] == ["a", "b", "c"]
    assert answers[0]["response"] == {"status_code": 200, "request_id": "req_1", "body": {"x": 1}}
    assert answers[2]["response"]["body"] == "not json"


@pytest.mark.parametrize("text", [b"hello\n", b"[]\n", b'{"custom_id": "a"}\n'])
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "precious.txt"
    file.write_bytes(text)
    with pytest.raises(ValueError, match="line 1 is not an answer"):
        Output(file)
    assert file.read_bytes() == text
