"""The metrics for requests without a key: rendered at most once per second, however many arrive."""

import asyncio
from collections.abc import Awaitable, Callable

FRESH_SECONDS = 1.0

Page = tuple[bytes, str]
"""A text and its content type."""


class PublicMetrics:
    """The last page, for as long as it is fresh; used on one event loop."""

    def __init__(self) -> None:
        self._page: asyncio.Future[Page] | None = None
        self._begun = 0.0

    async def page(self, render: Callable[[], Awaitable[Page]]) -> Page:
        """Return the page of the last second, or render it; everybody who asks meanwhile waits for the same."""
        now = asyncio.get_running_loop().time()
        page = self._page
        if page is None or (page.done() and (now >= self._begun + FRESH_SECONDS or page.exception() is not None)):
            self._begun = now
            page = self._page = asyncio.ensure_future(render())
        return await asyncio.shield(page)
