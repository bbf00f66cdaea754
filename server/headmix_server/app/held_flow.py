"""When a connection is read from: not while the application is slow, and not while a part of what came waits."""

import asyncio

from uvicorn.protocols.http.flow_control import FlowControl


class HeldFlow(FlowControl):
    """uvicorn's, with a second reason to stop reading: a part that has yet to be parsed."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self._reads_from = transport
        self._held = False

    def hold(self) -> None:
        """Read nothing until what has arrived is parsed."""
        self._held = True
        self._reads_from.pause_reading()

    def let_go(self) -> None:
        """Read on, unless the application is slow."""
        self._held = False
        if not self.read_paused:
            self._reads_from.resume_reading()

    def resume_reading(self) -> None:
        """Read on, unless a part waits to be parsed."""
        if self._held:
            self.read_paused = False
        else:
            super().resume_reading()
