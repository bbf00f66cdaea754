"""Owns how untrusted text is shown: nothing in it can move the cursor, or hide or reorder what is shown."""

import re

_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str, *, lines: bool = False) -> str:
    r"""Return text with control and reordering characters escaped, like `\x1b`; `lines` keeps line ends and tabs."""
    return _STEERING.sub(lambda match: match[0] if lines and match[0] in "\n\t" else _escape(match[0]), text)


def printable_json(text: str) -> str:
    """Return the same JSON with such characters, which only occur inside its strings, as JSON escapes."""
    return _STEERING.sub(lambda match: match[0] if match[0] == "\n" else f"\\u{ord(match[0]):04x}", text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
