"""Lines are those of any text editor, and a line without end is not held in memory."""

import io
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headmix_adapters.train.data.formats.text_lines import open_text, text_lines

PARTS = st.lists(st.sampled_from(["a", "é", "\U0001f98a", "\n", "\r\n", "x" * 30, "\u2028"]), max_size=20)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=PARTS, longest=st.integers(1, 40))
def test_every_line_is_yielded_or_called_too_long(tmp_path: Path, parts: list[str], longest: int) -> None:
    path = tmp_path / "a"
    path.write_bytes(("." + "".join(parts)).encode())
    text = ("." + "".join(parts)).replace("\r\n", "\n")
    with open_text(path) as file:
        lines = list(text_lines(file, longest))
    expected = io.StringIO(text).readlines()
    assert [line.number for line in lines] == list(range(1, len(expected) + 1))
    for line, whole in zip(lines, expected, strict=True):
        too_long = len(whole.removesuffix("\n")) > longest
        assert (line.text, bool(line.fault)) == ("" if too_long else whole, too_long)


def test_bytes_that_are_no_text_are_named_with_their_line_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one\ntw\xe9\n\xed\xa0\x80\nthree")
    with open_text(path) as file:
        faults = [line.fault for line in text_lines(file, 100)]
    assert [fault.partition(";")[0] for fault in faults] == [
        "",
        "not UTF-8 text (byte 0xe9)",
        "not UTF-8 text (byte 0xed)",
        "",
    ]
