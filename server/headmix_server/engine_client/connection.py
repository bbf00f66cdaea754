"""The state of one engine process on its endpoint, for the code that acts on it."""

import asyncio
from dataclasses import dataclass, field

from headmix_server.core.messages import EngineReady


def _future() -> asyncio.Future[EngineReady]:
    return asyncio.get_running_loop().create_future()


def _reason() -> asyncio.Future[str]:
    return asyncio.get_running_loop().create_future()


@dataclass(frozen=True, slots=True)
class EngineConnection:
    """Facts that never become untrue again, so that none can be missed.

    `ready` has the engine's announcement once it was made, and is cancelled if it never will be. `lost` has the reason
    once the engine's messages are no longer read. `refused` has the engine's own explanation why it cannot start.
    """

    ready: asyncio.Future[EngineReady] = field(default_factory=_future)
    lost: asyncio.Future[str] = field(default_factory=_reason)
    refused: asyncio.Future[str] = field(default_factory=_reason)

    @property
    def was_ready(self) -> bool:
        """Whether the engine has ever announced itself."""
        return self.ready.done() and not self.ready.cancelled()

    def announce(self, ready: EngineReady) -> None:
        """Record that the engine is ready."""
        if not self.ready.done():
            self.ready.set_result(ready)

    def refuse(self, reason: str) -> None:
        """Record that the engine cannot start."""
        if not self.refused.done():
            self.refused.set_result(reason)

    def lose(self, reason: str) -> None:
        """Record that the engine is gone, or its messages are unreadable."""
        self.ready.cancel()
        if not self.lost.done():
            self.lost.set_result(reason)
