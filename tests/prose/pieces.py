"""Every piece of English in the repository, with the line it starts on.

Owns where English is found: Markdown pages, Python docstrings, comments and test names, C++ comments, the Makefile
and, in the shipped packages, string literals (error messages, help, log events). Knows no rules about the English
itself.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHIPPED = ("server", "adapters", "client", "harness", "benchmarks", "examples")
SEARCHED = (*SHIPPED, "tests", "docs", "docker")
# Data sets, other people's packages, and the files that quote the phrases they forbid.
SKIPPED = (ROOT / "examples" / "data", ROOT / "tests" / "clients" / "node" / "node_modules", ROOT / "tests" / "prose")
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_MAKE_COMMENT = re.compile(r"#[^\n]*")


@dataclass(frozen=True, slots=True)
class Piece:
    """A docstring, block of comments, test name, literal or page: its `text`, starting at `line` of `path`."""

    path: Path
    line: int
    text: str

    def matches(self, pattern: re.Pattern[str]) -> Iterator[str]:
        """Yield the place of each match; a phrase may span lines."""
        flat, starts = _flat(self.text)
        for match in pattern.finditer(flat):
            line = self.line + sum(start <= match.start() for start in starts) - 1
            yield f"{self.path.relative_to(ROOT)}:{line}: {flat[max(0, match.start() - 40) : match.end() + 40]}"


@cache
def _flat(text: str) -> tuple[str, tuple[int, ...]]:
    """Return the text on one line, and where each of its lines starts; every phrase is looked for in it."""
    starts, flat = [0], ""
    for number, line in enumerate(text.split("\n")):
        if number:
            starts.append(len(flat))
        flat += line.strip().removeprefix("# ") + " "
    return flat, tuple(starts)


@cache
def all_pieces() -> tuple[Piece, ...]:
    """Return every piece in the repository."""
    return tuple(piece for path in _files() for piece in _pieces(path))


@cache
def pages() -> tuple[Path, ...]:
    """Return every Markdown page in the repository."""
    return tuple(path for path in _files() if path.suffix == ".md")


def _files() -> Iterator[Path]:
    yield from sorted(path for path in ROOT.glob("*.md"))
    yield ROOT / "Makefile"
    for folder in SEARCHED:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in {".md", ".py", ".cpp", ".h"} and not any(path.is_relative_to(one) for one in SKIPPED):
                yield path


def _pieces(path: Path) -> Iterator[Piece]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        yield Piece(path, 1, text)
    elif path.suffix == ".py":
        yield from _comments(path, text)
        tree = ast.parse(text)
        yield from _strings(path, tree)
        yield from _test_names(path, tree)
    else:
        pattern = _MAKE_COMMENT if path.name == "Makefile" else _COMMENT
        yield from (Piece(path, text.count("\n", 0, m.start()) + 1, m.group()) for m in pattern.finditer(text))


def _comments(path: Path, text: str) -> Iterator[Piece]:
    block: list[tokenize.TokenInfo] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        if block and token.start[0] != block[-1].start[0] + 1:
            yield _block(path, block)
            block = []
        block.append(token)
    if block:
        yield _block(path, block)


def _block(path: Path, block: list[tokenize.TokenInfo]) -> Piece:
    return Piece(path, block[0].start[0], "\n".join(token.string for token in block))


def _strings(path: Path, tree: ast.Module) -> Iterator[Piece]:
    shipped = path.relative_to(ROOT).parts[0] in SHIPPED
    docstrings = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and (shipped or node in docstrings):
            yield Piece(path, node.lineno, node.value)


def _test_names(path: Path, tree: ast.Module) -> Iterator[Piece]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield Piece(path, node.lineno, node.name.replace("_", " "))
