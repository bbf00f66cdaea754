"""The page on `LLM`: its snippets run, and it names every method."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from headmix_server import LLM
from tests.support.doc_blocks import to_run

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "in-process.md").read_text()
SNIPPETS = [block.text for block in to_run("docs/in-process.md", "python")]


def test_every_snippet_runs() -> None:
    """In one process, so that the base is converted and loaded only once."""
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(SNIPPETS)], capture_output=True, text=True, cwd=ROOT, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Thou hast read my letter" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("spam")


@pytest.mark.drift
def test_every_method_is_on_the_page() -> None:
    methods = [name for name, _ in inspect.getmembers(LLM, inspect.isfunction) if not name.startswith("_")]
    missing = [name for name in methods if name != "close" and f"`{name}(" not in PAGE]
    assert missing == []
