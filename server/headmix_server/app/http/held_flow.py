"""When a connection is read: not while the application is slow, and not while received data waits to be parsed."""

import asyncio

from uvicorn.protocols.http.flow_control import FlowControl


class HeldFlow(FlowControl):
    """uvicorn's flow control with a second reason to stop reading: data that has yet to be parsed."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self._reads_from = transport
        self._held = False

    def hold(self) -> None:
        """Stop reading until what has arrived is parsed."""
        self._held = True
        self._reads_from.pause_reading()

    def let_go(self) -> None:
        """Resume reading, unless the application is slow."""
        self._held = False
        if not self.read_paused:
            self._reads_from.resume_reading()

    def resume_reading(self) -> None:
        """Resume reading, unless data waits to be parsed."""
        if self._held:
            self.read_paused = False
        else:
            super().resume_reading()
