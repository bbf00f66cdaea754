"""A job's events as they happen, until the job has ended."""

import asyncio

from headmix_server.api.responses.fine_tuning import event_object
from headmix_server.api.responses.sse import Events
from headmix_server.api.state import ApiState
from headmix_server.core.errors import ServerOverloaded
from headmix_server.jobs.job import Job

POLL_SECONDS = 1.0
_PAGE = 100


async def stream_events(state: ApiState, job: Job, after: int) -> Events:
    """Yield the events numbered above `after`, oldest first; a stream that ends without an error is complete.

    Raises:
        ServerOverloaded: the server is stopping; the events go on after the last one's id.
    """
    tenant = job.tenant
    while True:
        # Read before the events: what is recorded with the job's end is found after it.
        now = await state.threads.manage(tenant, state.jobs.head, tenant, job.id)
        events = await state.threads.manage(tenant, state.jobs.events, job.id, after=after, limit=_PAGE)
        for event in events:
            after = event.number
            yield event_object(event).model_dump_json()
        if len(events) == _PAGE:
            continue
        if now.has_ended:
            return
        if state.engine.is_draining:
            raise ServerOverloaded("The server is stopping: ask again for the events after the last one.")
        await asyncio.sleep(POLL_SECONDS)
