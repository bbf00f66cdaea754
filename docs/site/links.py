"""Maps links in the repository's Markdown to their targets on the site. Collects broken links."""

import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_FENCE = re.compile(r"^(?P<fence>```+|~~~+).*?^(?P=fence)\s*$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`)", re.DOTALL)
_LINK = re.compile(r"(?P<before>\]\(<?|\b(?:src|srcset|href)=\")(?P<target>[^)\s>\"]+)")
_EXTERNAL = re.compile(r"[a-z][a-z0-9+.-]*:|#")


@dataclass(slots=True)
class Links:
    """Rewrites the links in pages. `pages` maps each source to its name on the site; files are copied to `stage`/files.

    `faults` lists the links whose file is not in the repository.
    """

    root: Path
    stage: Path
    pages: Mapping[str, str]
    faults: list[str] = field(default_factory=list)

    def rewrite(self, text: str, source: str) -> str:
        """Return a page's text with its links rewritten for the site; code is unchanged."""

        def replace(link: re.Match[str]) -> str:
            return link["before"] + self._target(link["target"], source)

        return _outside(_FENCE, text, lambda prose: _outside(_CODE, prose, lambda part: _LINK.sub(replace, part)))

    def _target(self, target: str, source: str) -> str:
        if _EXTERNAL.match(target):
            return target
        path, hash_sign, anchor = target.partition("#")
        linked = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if linked in self.pages:
            leads_to = f"{self.pages[linked]}.md"
        elif linked.startswith("..") or not (self.root / linked).exists():
            self.faults.append(f"{source}: {target}: no such file")
            return target
        else:
            leads_to = self._copy(linked)
        return posixpath.relpath(leads_to, posixpath.dirname(self.pages[source]) or ".") + hash_sign + anchor

    def _copy(self, linked: str) -> str:
        """Copy a file to the site, or write a page that lists a folder's files; return its path on the site."""
        found, copied = self.root / linked, f"files/{linked}"
        if found.is_dir():
            copied += ".md"
            lines = [f"* `{file.name}`\n" for file in sorted(found.iterdir()) if not file.name.startswith(".")]
            _write(self.stage / copied, f"---\norphan: true\n---\n\n# {linked}/\n\n{''.join(lines)}".encode())
        else:
            _write(self.stage / copied, found.read_bytes())
        return copied


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _outside(pattern: re.Pattern[str], text: str, change: Callable[[str], str]) -> str:
    """Return the text with only the parts between a pattern's matches changed."""
    parts, end = list[str](), 0
    for match in pattern.finditer(text):
        parts += [change(text[end : match.start()]), match[0]]
        end = match.end()
    return "".join([*parts, change(text[end:])])
