"""Batches on a rig: files of lines, batches of them, and the server's runner at work."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from harness.server.api_rig import TENANT, ApiRig
from headmix_server.api.app import create_app
from headmix_server.app.jobs.batches import batch_runner
from headmix_server.files.stored_file import Purpose

CHAT = "/v1/chat/completions"
URL = "/v1/batches"
GIVE_UP_SECONDS = 30

Json = dict[str, Any]


def batch_line(custom_id: str, body: Json, *, url: str = CHAT) -> Json:
    """Return a line of an input file."""
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def chat_line(custom_id: str, model: str = "tiny-base", **more: Any) -> Json:
    """Return a line that asks for a chat."""
    return batch_line(custom_id, {"model": model, "messages": [{"role": "user", "content": custom_id}], **more})


class BatchRig:
    """A rig whose batches run while `running`."""

    def __init__(self, rig: ApiRig, folder: Path) -> None:
        self.rig = rig
        self._folder = folder

    def upload(self, lines: Iterable[Json | bytes], *, tenant: str = TENANT) -> str:
        """Store an input file and return its id."""
        blocks = [line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines]
        return self.rig.state.files.put(tenant, Purpose.BATCH, "in.jsonl", blocks).id

    async def create(self, lines: Iterable[Json | bytes], *, endpoint: str = CHAT, **more: Any) -> Json:
        """Create a batch of these lines."""
        body = {"input_file_id": self.upload(lines), "endpoint": endpoint, "completion_window": "24h", **more}
        response = await self.rig.client.post(URL, json=body)
        assert response.status_code == 200, response.text
        made: Json = response.json()
        return made

    async def get(self, batch_id: str) -> Json:
        """Return a batch as its tenant sees it."""
        response = await self.rig.client.get(f"{URL}/{batch_id}")
        assert response.status_code == 200, response.text
        found: Json = response.json()
        return found

    async def until(self, batch_id: str, fits: Callable[[Json], bool]) -> Json:
        """Wait until a batch is as wanted."""
        async with asyncio.timeout(GIVE_UP_SECONDS):
            while not fits(found := await self.get(batch_id)):  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(0.05)
        return found

    async def ended(self, batch_id: str) -> Json:
        """Wait until a batch has ended."""
        ends = {"completed", "failed", "expired", "cancelled"}
        return await self.until(batch_id, lambda batch: batch["status"] in ends)

    def lines(self, file_id: str | None, *, tenant: str = TENANT) -> list[Json]:
        """Return the lines of a result file; none if there is no file."""
        if file_id is None:
            return []
        with self.rig.state.files.open(tenant, file_id) as file:
            return [json.loads(line) for line in file]

    def results(self, batch: Json) -> dict[str, Json]:
        """Return the lines of both result files by custom id; each must be there once."""
        both = [*self.lines(batch["output_file_id"]), *self.lines(batch["error_file_id"])]
        found = {line["custom_id"]: line for line in both}
        assert len(found) == len(both)
        return found

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run batches during the block, as a server does between its start and its stop."""
        app = create_app(self.rig.state)
        runner = batch_runner(self.rig.state, app, self._folder)
        task = asyncio.create_task(runner.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
