"""The metrics for requests without a key: rendered at most once per second, however many arrive."""

import asyncio
from collections.abc import Awaitable, Callable

FRESH_SECONDS = 1.0

Page = tuple[bytes, str]
"""The page's text and its content type."""


class PublicMetrics:
    """Keeps the last page while it is fresh; used on one event loop."""

    def __init__(self) -> None:
        self._page: asyncio.Future[Page] | None = None
        self._begun = 0.0

    async def page(self, render: Callable[[], Awaitable[Page]]) -> Page:
        """Return the page if it is at most a second old, or render it; concurrent callers share one rendering."""
        now = asyncio.get_running_loop().time()
        page = self._page
        if page is None or (page.done() and (now >= self._begun + FRESH_SECONDS or page.exception() is not None)):
            self._begun = now
            page = self._page = asyncio.ensure_future(render())
        return await asyncio.shield(page)
