"""Owns lists that come in pages: one page, and the request for the next. It sends nothing itself."""

from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from headmix.http.request import Request

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Entries of a list; `after` is where the next page begins, None on the last."""

    items: tuple[T, ...]
    after: str | int | None


def next_page(request: Request[Page[T]], page: Page[T]) -> Request[Page[T]] | None:
    """The request for the page after this one, None if it was the last."""
    return None if page.after is None else replace(request, query={**request.query, "after": page.after})
