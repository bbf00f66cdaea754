"""What the engine has computed for one of its requests, whether read or not: the basis of usage, metrics and limits."""

import asyncio
from typing import assert_never

from headmix_server.core.messages import AdapterLoaded, Classified, Embedded, Failed, Output, TokenOutput
from headmix_server.core.types import TokenCounts


class Computed:
    """The counts of one engine request; they only grow, until they are final.

    The engine client opens it with the request, and closes it once the engine will compute nothing more for it.
    """

    def __init__(self, prompt_length: int) -> None:
        self._prompt_length = prompt_length
        self._final = asyncio.Event()
        self._final.set()
        self.counts = TokenCounts()

    def open(self) -> None:
        """Start counting: the engine may compute from now on."""
        self._final.clear()

    def add(self, output: Output) -> None:
        """Count what an output reports."""
        match output:
            case Failed(counts=counts):
                self.update(counts)
            case TokenOutput():
                cached = self.counts.cached if output.cached_tokens is None else output.cached_tokens
                generated = self.counts.generated + len(output.tokens)
                self.update(TokenCounts(prompt=self._prompt_length, cached=cached, generated=generated))
            case Classified() | Embedded():
                self.update(TokenCounts(prompt=self._prompt_length))
            case AdapterLoaded():
                pass
            case _:
                assert_never(output)

    def update(self, counts: TokenCounts) -> None:
        """Merge the engine's own account; known counts never decrease."""
        if not self._final.is_set():
            known = self.counts
            self.counts = TokenCounts(
                prompt=max(known.prompt, counts.prompt),
                cached=max(known.cached, counts.cached),
                generated=max(known.generated, counts.generated),
            )

    def end_after(self, generated: int) -> None:
        """End the completion after so many tokens: what the engine computes until it notices is not charged."""
        self.counts = TokenCounts(prompt=self.counts.prompt, cached=self.counts.cached, generated=generated)
        self.close()

    def close(self) -> None:
        """Make the counts final."""
        self._final.set()

    async def final(self) -> None:
        """Wait until the counts are final; for an aborted request, that is when the engine has stopped it."""
        await self._final.wait()
