"""Puts every page of the site into one folder, in the form Sphinx reads. Does not build the site."""

from collections.abc import Sequence
from pathlib import Path

from docs.site.links import Links
from docs.site.navigation import INDEX, UNLISTED, Navigation, is_generated, name_of, read_navigation
from docs.site.reference import GENERATORS


class SiteError(Exception):
    """The pages do not form a site: broken links, or pages missing from the navigation. One fault per line."""


def stage_pages(root: Path, stage: Path) -> None:
    """Write the pages of the repository at `root` to the empty folder `stage`.

    Raises:
        SiteError: a link leads to a missing file, or navigation.toml and the folder docs/ differ.
    """
    navigation = read_navigation(root)
    written = [source for source in (INDEX, *navigation.listed, *UNLISTED) if not is_generated(source)]
    links = Links(root, stage, {source: name_of(source) for source in (*written, *navigation.listed)})
    faults = _differences(root, written)
    for source in written:
        if (root / source).exists():
            text = links.rewrite((root / source).read_text(encoding="utf-8"), source)
            _write(stage, source, _with_navigation(source, text, navigation))
    if faults := faults + links.faults:
        raise SiteError("\n".join(faults))
    for source in filter(is_generated, navigation.listed):
        _write(stage, source, GENERATORS[Path(source).name]())


def _differences(root: Path, sources: Sequence[str]) -> list[str]:
    """Return the differences between the navigation and the files."""
    there = {path.relative_to(root).as_posix() for path in (root / "docs").rglob("*.md")}
    missing = [f"navigation.toml: {source}: no such file" for source in sources if not (root / source).exists()]
    return missing + [f"{source}: not in navigation.toml" for source in sorted(there - set(sources))]


def _with_navigation(source: str, text: str, navigation: Navigation) -> str:
    """Return a page with the directives for the sidebar; they are not in the source, which is read on GitHub too."""
    if source in UNLISTED:
        return f"---\norphan: true\n---\n\n{text}"
    if source == INDEX:
        return text + "".join(_contents(section.pages, section.title) for section in navigation.sections)
    return text + _contents(navigation.below.get(source, ()))


def _contents(sources: Sequence[str], caption: str = "") -> str:
    if not sources:
        return ""
    title = f":caption: {caption}\n" if caption else ""
    names = "".join(f"/{name_of(source)}\n" for source in sources)
    return f"\n```{{toctree}}\n:hidden:\n{title}\n{names}```\n"


def _write(stage: Path, source: str, text: str) -> None:
    path = stage / f"{name_of(source)}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
