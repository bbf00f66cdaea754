"""Which pages the site has, in which order and under which names. Knows nothing about their content."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

INDEX = "docs/index.md"
UNLISTED = ("README.md", "examples/data/LICENSES.md")
"""Pages that other pages link to but that are not in the navigation."""

_FILE = Path(__file__).with_name("navigation.toml")
_GENERATED = "generated/"


@dataclass(frozen=True, slots=True)
class Section:
    """A heading in the site's sidebar and the pages under it: sources, as named in navigation.toml."""

    title: str
    pages: Sequence[str]


@dataclass(frozen=True, slots=True)
class Navigation:
    """The sidebar: sections, and pages nested below one of their pages."""

    sections: Sequence[Section]
    below: Mapping[str, Sequence[str]]

    @property
    def listed(self) -> list[str]:
        """The sources of all pages."""
        top = [source for section in self.sections for source in section.pages]
        return top + [source for pages in self.below.values() for source in pages]


def read_navigation(root: Path) -> Navigation:
    """Return the navigation of the repository at `root`."""
    read = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    below = {
        page: [path.relative_to(root).as_posix() for path in sorted((root / folder).glob("*.md"))]
        for page, folder in read["below"].items()
    }
    return Navigation([Section(**section) for section in read["section"]], below)


def is_generated(source: str) -> bool:
    """Return whether the build generates this page."""
    return source.startswith(_GENERATED)


def name_of(source: str) -> str:
    """Return a page's name on the site: its address without `.html`.

    Pages of docs/ keep their names; those of other folders are named after the file, or after the folder of a README.
    """
    path = Path(source)
    if is_generated(source):
        return f"reference/{path.name}"
    if path.is_relative_to("docs"):
        return path.relative_to("docs").with_suffix("").as_posix()
    if path.name == "README.md" and path.parent != Path():
        return path.parent.as_posix()
    return f"project/{path.stem.lower()}"
