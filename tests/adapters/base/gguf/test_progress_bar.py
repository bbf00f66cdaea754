import io
import re

from rich.console import Console

from headmix_adapters.base.gguf.conversion_progress import progress_of
from headmix_adapters.base.gguf.progress_bar import conversion_bar


def drawn(*, terminal: bool) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120)
    with conversion_bar(console) as draw:
        draw(progress_of("evil\x1b[2J[red].gguf", "reading the file", 0.5))
        draw(progress_of("evil\x1b[2J[red].gguf", "writing the folder"))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_person_sees_file_stage_and_share_and_the_file_steers_nothing() -> None:
    text = drawn(terminal=True)
    assert r"Converting evil\x1b[2J[red].gguf, once: writing the folder" in text
    assert "90%" in text
    assert re.search(r"about \d+ s left", text)
    assert "\x1b[2J" not in text


def test_where_nobody_looks_nothing_is_drawn() -> None:
    assert drawn(terminal=False) == ""
