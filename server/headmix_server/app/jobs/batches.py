"""Connects what running batches takes: the server's parts, and the application that answers the lines."""

import asyncio
import shutil
from pathlib import Path

from starlette.types import ASGIApp

from headmix_server.api.line_caller import LineCaller
from headmix_server.api.state import ApiState
from headmix_server.batches.input_file import Bounds
from headmix_server.batches.run import Parts
from headmix_server.batches.runner import BatchRunner, batch_claims
from headmix_server.batches.window import Window

STORAGE_POLL_SECONDS = 1.0


def batch_runner(state: ApiState, app: ASGIApp, folder: Path) -> BatchRunner:
    """Return what runs the batches; `folder` is for temporary files, and loses any it has.

    Raises:
        OSError: the folder cannot be used.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    settings = state.settings

    async def until_ready() -> None:
        while state.refusal() is not None:  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(STORAGE_POLL_SECONDS)
        await state.engine.wait_ready()

    def limit_of(tenant: str) -> int:
        limits = state.limits.remembered(tenant)  # every line that is admitted has them remembered
        return state.limits.defaults.concurrent_requests if limits is None else limits.concurrent_requests

    def is_revoked(tenant: str, key_id: str) -> bool:
        return any(key.key_id == key_id and key.revoked is not None for key in state.keys.list(tenant))

    parts = Parts(
        engine=state.database,
        files=state.files,
        claims=batch_claims(state.database),
        library=state.library,
        ask=LineCaller(app),
        until_ready=until_ready,
        limit_of=limit_of,
        is_revoked=is_revoked,
        on_line=state.metrics.batch_line,
        on_end=state.metrics.batch_ended,
        window=Window(settings.batch_window),
        bounds=Bounds(settings.max_batch_lines, settings.max_body_mib),
        folder=folder,
    )
    return BatchRunner(parts, state.jobs)
