"""Owns paginated lists: one page, and the request for the next. Sends nothing itself."""

from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from headmix.http.request import Request

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Entries of a list; `after` is where the next page begins, or None on the last page."""

    items: tuple[T, ...]
    after: str | int | None


def next_page(request: Request[Page[T]], page: Page[T]) -> Request[Page[T]] | None:
    """Return the request for the page after this one, or None if it was the last."""
    return None if page.after is None else replace(request, query={**request.query, "after": page.after})
