"""JSON Lines, one object a line, and JSON files, one array of objects; rows are parsed one at a time."""

from collections.abc import Iterator
from pathlib import Path

from headmix_adapters.artifact.checks.strict_json import parse_strict
from headmix_adapters.train.data.formats import entry
from headmix_adapters.train.data.formats.array_items import array_items
from headmix_adapters.train.data.formats.entry import Entry, UnreadableError
from headmix_adapters.train.data.formats.text_lines import open_text, text_lines

_BLANK = " \t\r\n"


def json_lines(path: Path, longest: int) -> Iterator[Entry]:
    """Yield the object of each line that is not blank.

    Raises:
        UnreadableError: the file is not text.
    """
    blank = 0
    with open_text(path) as file:
        for line in text_lines(file, longest):
            if line.fault:
                yield Entry(line.number, None, line.fault)
            elif line.text.strip():
                yield _entry(line.number, line.text.strip(_BLANK))
            elif (blank := blank + 1) > entry.MAX_BLANK_ROWS:
                yield entry.too_many_blank(line.number)
                return


def json_file(path: Path, longest: int) -> Iterator[Entry]:
    """Yield the objects of a JSON array, each with the line it begins on; JSON Lines under this name are read too.

    Raises:
        UnreadableError: the file is neither.
    """
    with open_text(path) as file:
        first = next((char for char in iter(lambda: file.read(1), "") if char not in _BLANK), "")
    if first == "{":
        yield from json_lines(path, longest)
        return
    if first not in ("[", ""):
        raise UnreadableError("a .json file holds an array of rows, or one row a line")
    with open_text(path) as file:
        for item in array_items(file, longest):
            yield Entry(item.number, None, item.fault) if item.fault else _entry(item.number, item.text)


def _entry(line: int, text: str) -> Entry:
    try:
        fields = parse_strict(text.encode())
    except ValueError as error:
        return Entry(line, None, f"not a JSON object: {error}")
    if not isinstance(fields, dict):
        hint = "; a file that holds one array ends in .json" if line == 1 and isinstance(fields, list) else ""
        return Entry(line, None, f"not a JSON object{hint}")
    return Entry(line, fields)
