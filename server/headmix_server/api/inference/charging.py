"""Adds what the engine computed for a request to the request's record, however the request ends."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from headmix_server.api.middleware.request_record import RequestRecord
from headmix_server.engine_client.computed import Computed


@asynccontextmanager
async def counted(
    record: RequestRecord, place: int, prompt_length: int, *, first: bool = True
) -> AsyncIterator[Computed]:
    """Run an engine request for the prompt at this place, and add what was computed for it to the record.

    `first` marks the prompt's first choice. On an early exit, by an error or because the client has left, it first
    waits until the engine has stopped.
    """
    computed = Computed(prompt_length)
    try:
        yield computed
    finally:
        try:
            await computed.final()
        finally:
            record.computed(place, computed.counts, first=first)
