"""There are two reasons to pause reading; it resumes when neither applies."""

import asyncio
from itertools import product

from headmix_server.app.http.held_flow import HeldFlow


class Connection(asyncio.Transport):
    """Records whether it is being read from."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


async def test_nothing_is_read_while_a_part_waits_or_the_application_is_slow() -> None:
    steps = ("hold", "let_go", "pause_reading", "resume_reading")
    for walk in product(steps, repeat=5):
        connection = Connection()
        flow, held, slow = HeldFlow(connection), False, False
        for step in walk:
            getattr(flow, step)()
            held = {"hold": True, "let_go": False}.get(step, held)
            slow = {"pause_reading": True, "resume_reading": False}.get(step, slow)
            assert connection.reading == (not held and not slow), walk
