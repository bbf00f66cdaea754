"""The documentation site builds without a warning and without a network, and a broken link or page stops it."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs.site.navigation import is_generated, name_of, read_navigation

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.drift,
    pytest.mark.skipif(importlib.util.find_spec("sphinx") is None, reason="the extra `docs` is not installed"),
]

BUILD = """
import sys
from pathlib import Path
from docs.site.__main__ import main
sys.exit(main(*map(Path, sys.argv[1:])))
"""


def build(folder: Path, root: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", BUILD, str(folder), str(root)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=110, check=False)


def checkout(folder: Path) -> Path:
    """Make a checkout in which the pages in docs/ can be changed."""
    (folder / "docs").mkdir(parents=True)
    for path in ROOT.iterdir():
        if path.name != "docs":
            (folder / path.name).symlink_to(path)
    for path in (ROOT / "docs").iterdir():
        (folder / "docs" / path.name).symlink_to(path)
    return folder


def replace(page: Path, text: str) -> None:
    page.unlink(missing_ok=True)
    page.write_text(text, encoding="utf-8")


def test_the_site_builds_without_a_warning_and_asks_for_nothing_from_elsewhere(tmp_path: Path) -> None:
    done = build(tmp_path / "site")
    assert (done.returncode, done.stderr) == (0, "")
    pages = {path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("*.html")}
    named = {f"{name_of(source)}.html" for source in read_navigation(ROOT).listed}
    assert {"index.html", "search.html"} | named <= pages
    for page in pages:
        html = (tmp_path / "site" / page).read_text(encoding="utf-8")
        fetched = re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"((?:https?:)?//[^\"]*)", html)
        assert fetched == [], page


def test_a_link_to_an_anchor_that_is_not_there_stops_the_build(tmp_path: Path) -> None:
    root = checkout(tmp_path / "checkout")
    replace(root / "docs/gpu.md", "# On a GPU\n\n[a](api.md#no-such-part), [b](#nor-here)\n")
    done = build(tmp_path / "site", root)
    assert done.returncode != 0
    assert "no-such-part" in done.stderr
    assert "nor-here" in done.stderr


def test_what_leads_nowhere_is_listed_in_full(tmp_path: Path) -> None:
    root = checkout(tmp_path / "checkout")
    replace(root / "docs/gpu.md", "# On a GPU\n\n[a](gone.md), ![b](pictures/gone.svg), [c](../server/gone.py)\n")
    replace(root / "docs/stray.md", "# No navigation names this page\n")
    (root / "docs/families.md").unlink()
    done = build(tmp_path / "site", root)
    assert done.returncode == 1
    assert done.stderr.splitlines()[:2] == [
        "navigation.toml: docs/families.md: no such file",
        "docs/stray.md: not in navigation.toml",
    ]
    for target in ("gone.md", "pictures/gone.svg", "../server/gone.py"):
        assert f"docs/gpu.md: {target}: no such file" in done.stderr.splitlines()
    assert not (tmp_path / "site").exists()


def test_every_page_of_the_navigation_is_there_once() -> None:
    listed = read_navigation(ROOT).listed
    assert len(listed) == len(set(listed))
    assert {source for source in listed if not is_generated(source) and not (ROOT / source).exists()} == set()
