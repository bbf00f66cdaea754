"""Links in the Markdown lead to the same place on the site as in the repository; code is unchanged."""

from pathlib import Path

import pytest

from docs.site.links import Links


@pytest.fixture
def links(tmp_path: Path) -> Links:
    root = tmp_path / "root"
    (root / "code" / "sub").mkdir(parents=True)
    (root / "code" / "a.py").write_text("x = 1\n")
    (root / "docs").mkdir()
    pages = {"docs/api.md": "api", "docs/deep/page.md": "deep/page", "NOTES.md": "project/notes"}
    return Links(root, tmp_path / "stage", pages)


@pytest.mark.parametrize(
    ("source", "written", "on_the_site"),
    [
        ("docs/api.md", "[a](deep/page.md#part)", "[a](deep/page.md#part)"),
        ("docs/deep/page.md", "[a](../api.md)", "[a](../api.md)"),
        ("docs/api.md", "[a](../NOTES.md#x)", "[a](project/notes.md#x)"),
        ("NOTES.md", "[a](docs/api.md) and [b](docs/deep/page.md)", "[a](../api.md) and [b](../deep/page.md)"),
        ("NOTES.md", "[a](code/a.py)", "[a](../files/code/a.py)"),
        ("NOTES.md", '<img src="code/a.py">', '<img src="../files/code/a.py">'),
        ("NOTES.md", "[a](code)", "[a](../files/code.md)"),
        ("NOTES.md", "[a](https://example.com/x) [b](#here)", "[a](https://example.com/x) [b](#here)"),
        (
            "NOTES.md",
            "`[a](gone.md)` and\n\n```md\n[a](gone.md)\n```\n",
            "`[a](gone.md)` and\n\n```md\n[a](gone.md)\n```\n",
        ),
    ],
)
def test_a_link_leads_to_the_same_place_on_the_site(links: Links, source: str, written: str, on_the_site: str) -> None:
    assert links.rewrite(written, source) == on_the_site
    assert links.faults == []


@pytest.mark.parametrize("code", ["`[a](gone.md)`", "```md\n[a](gone.md)\n```\n", "``a ` [a](gone.md)``"])
def test_what_looks_like_a_link_in_code_is_none(links: Links, code: str) -> None:
    assert links.rewrite(f"before [a](code)\n\n{code}\n", "NOTES.md").endswith(f"\n\n{code}\n")
    assert links.faults == []


def test_a_linked_file_goes_with_the_site(links: Links) -> None:
    links.rewrite("[a](code/a.py) [b](code)", "NOTES.md")
    assert (links.stage / "files/code/a.py").read_text() == "x = 1\n"
    assert "* `a.py`" in (links.stage / "files/code.md").read_text()


@pytest.mark.parametrize("target", ["gone.md", "code/gone.py", "../outside.md", "docs/gone.md#part"])
def test_a_link_to_nothing_is_named_with_its_page(links: Links, target: str) -> None:
    links.rewrite(f"[a]({target})", "NOTES.md")
    assert links.faults == [f"NOTES.md: {target}: no such file"]
