"""A page of a list: bounded in entries, and in bytes however large the listed adapters' headers are."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Select
from sqlalchemy.orm import Session

from headmix_server.catalog.queries import Columns, read
from headmix_server.catalog.tables import VersionRow
from headmix_server.catalog.version import AdapterVersion

PAGE_BYTES = 2 * 1024 * 1024
"""The most bytes of headers on one page: a classifier's labels alone may take half a million."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some versions of a list, in its order; `has_more` is true if others follow the last."""

    versions: tuple[AdapterVersion, ...]
    has_more: bool

    @property
    def config_bytes(self) -> int:
        """The bytes that count towards the page's bound."""
        return sum(version.config_bytes for version in self.versions)


def read_page(session: Session, query: Select[*Columns], limit: int | None, *, before: Page | None = None) -> Page:
    """Return the page `before` plus the first versions of an ordered query; the sum keeps to both bounds."""
    begun = Page((), has_more=False) if before is None else before
    room = None if limit is None else limit - len(begun.versions)
    sizes = session.scalars(
        query.with_only_columns(VersionRow.config_bytes).limit(None if room is None else room + 1)
    ).all()
    count = _fitting(sizes, begun, room)
    # Rows may change between the two queries: the page is then a few bytes larger or smaller, but consistent.
    found = session.execute(query.limit(count)).all() if count else ()
    return Page((*begun.versions, *map(read, found)), len(sizes) > count)


def _fitting(sizes: Sequence[int], begun: Page, room: int | None) -> int:
    """Return how many of the next entries fit; an empty page takes one whatever its size."""
    total = begun.config_bytes
    for count, size in enumerate(sizes):
        total += size
        if count == room or (total > PAGE_BYTES and (count or begun.versions)):
            return count
    return len(sizes)
