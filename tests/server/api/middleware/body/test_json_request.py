"""What a request keeps of its body."""

import asyncio
import gc

from starlette.requests import Request

from harness.server.api_rig import BASE, ApiRig
from headmix_server.core.messages import Generate

MARK = b" " * 200_000


async def test_an_open_request_keeps_nothing_of_its_bodys_bytes(rig: ApiRig) -> None:
    rig.engine.answering = False
    content = b'{"model": "%s", "prompt": "x"}' % BASE.encode() + MARK
    headers = {"content-type": "application/json"}
    asked = asyncio.create_task(rig.client.post("/v1/completions", content=content, headers=headers))
    (message,) = await rig.engine.expect(Generate)
    gc.collect()
    served = [thing for thing in gc.get_objects() if Request in type(thing).__mro__]
    assert served
    assert not [request for request in served if len(getattr(request, "_body", b"")) > 1000]
    assert not [request for request in served if len(getattr(request, "_raw", b"")) > 1000]
    await rig.engine.send(*rig.engine.answer(message))
    assert (await asked).status_code == 200
