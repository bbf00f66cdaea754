"""Target `frames`: the messages between the two processes, to an engine and to an engine's client.

An input is msgpack: the direction, and the frames in order. Whatever arrives, the engine answers every request it could
read exactly once and stops when told to; the client's request ends with an answer or an error.
"""

import asyncio
import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import Literal

import msgspec
import zmq
from hypothesis import strategies as st

from harness.engine.engines import LIMITS, FakeDisk, adapter
from harness.fuzz.targets.target import Target
from headmix_server.core.errors import HeadmixServerError
from headmix_server.core.messages import (
    Abort,
    Aborted,
    AdapterLoaded,
    Classified,
    Classify,
    Embed,
    Embedded,
    EngineReady,
    EngineRefused,
    EngineReport,
    Failed,
    ForgetAdapter,
    Generate,
    LoadAdapter,
    Message,
    Outputs,
    Shutdown,
    TokenOutput,
    UnpinAdapter,
    decode_from_engine,
    decode_to_engine,
    encode,
)
from headmix_server.core.types import EmbeddingParams, FinishReason, SamplingParams, TokenCounts, TokenLogprob
from headmix_server.engine.fake_runner import FakeRunner
from headmix_server.engine.loop import Engine
from headmix_server.engine.server import EngineServer
from headmix_server.engine_client.client import EngineClient

PATIENCE_SECONDS = 10
READY = EngineReady(pid=1, max_model_len=256, kv_blocks=64, block_size=4, adapter_slots=4)
OURS = "ours"
"""The id of the request that the client has open while frames arrive."""


class Frames(msgspec.Struct, frozen=True):
    """`to` says which side receives the frames."""

    to: Literal["engine", "client"]
    frames: list[bytes]


def check(data: bytes) -> str:
    """Deliver the frames."""
    given = msgspec.msgpack.decode(data, type=Frames)
    if given.to == "engine":
        return _to_engine(given.frames)
    return asyncio.run(_to_client(given.frames))


def _to_engine(frames: list[bytes]) -> str:
    engine = Engine(FakeRunner(range(1000), open_adapter=FakeDisk().open), LIMITS)
    expected, unreadable = Counter[str](), 0
    with tempfile.TemporaryDirectory() as folder, zmq.Context() as context, context.socket(zmq.PAIR) as peer:
        peer.setsockopt(zmq.LINGER, 0)
        endpoint = f"ipc://{Path(folder) / 'engine'}"
        peer.bind(endpoint)
        faults: list[BaseException] = []

        def serve() -> None:
            try:
                EngineServer(engine, endpoint, READY).run()
            except BaseException as error:  # noqa: BLE001 - raised below, on the thread that checks
                faults.append(error)

        thread = threading.Thread(target=serve)
        thread.start()
        for frame in frames:
            message = _read(frame)
            if isinstance(message, Shutdown):
                continue  # the last one, below, is enough
            unreadable += message is None
            if isinstance(message, Generate | Classify | Embed | LoadAdapter):
                expected[message.request_id] += 1
            if isinstance(message, Abort):
                expected[f"abort {message.request_id}"] += 1
            peer.send(frame)
        peer.send(encode(Shutdown()))
        ends = _ends(peer, thread)
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive(), "the engine does not end"
    if faults:
        raise faults[0]
    _require_one_end_each(expected, ends)
    return f"engine: {len(ends)} requests ended, {min(unreadable, 2)} frames unreadable"


def _read(frame: bytes) -> Message | None:
    try:
        return decode_to_engine(frame)
    except msgspec.MsgspecError:
        return None


def _ends(peer: "zmq.Socket[bytes]", thread: threading.Thread) -> "Counter[str]":
    """Receive the engine's messages until it has ended; count the terminal ones by request."""
    ends = Counter[str]()
    while peer.poll(50) or thread.is_alive():
        if not peer.poll(50):
            continue
        message = decode_from_engine(peer.recv())
        if isinstance(message, Outputs):
            for output in message.items:
                if not isinstance(output, TokenOutput) or output.finish_reason is not None:
                    ends[output.request_id] += 1
            for account in message.aborted:
                ends[f"abort {account.request_id}"] += 1
    return ends


def _require_one_end_each(expected: "Counter[str]", ends: "Counter[str]") -> None:
    for request, count in expected.items():
        if request.startswith("abort "):
            assert ends[request] == count, (request, count, ends)
        else:  # an aborted request may be answered only by the abort's account
            fewest = 0 if expected[f"abort {request}"] else count
            assert fewest <= ends[request] <= count, (request, count, ends)
    assert ends.keys() <= expected.keys(), (ends, expected)


async def _to_client(frames: list[bytes]) -> str:
    client = EngineClient(max_open=4)
    with tempfile.TemporaryDirectory() as folder, zmq.Context() as context, context.socket(zmq.PAIR) as peer:
        peer.setsockopt(zmq.LINGER, 0)
        endpoint = f"ipc://{Path(folder) / 'engine'}"
        client.attach(endpoint)
        peer.connect(endpoint)
        peer.send(encode(READY))
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await client.wait_ready()
                asking = asyncio.create_task(_ask(client))
                await asyncio.sleep(0)
                for frame in frames:
                    peer.send(frame)
                peer.send(encode(Outputs(items=[Failed(request_id=OURS, code="internal_error", message="the end")])))
                outcome = await asking
        finally:
            client.detach("the check is over")
            await client.wait_idle()
    return f"client {outcome}"


async def _ask(client: EngineClient) -> str:
    request = Generate(request_id=OURS, tenant="t", prompt=[1], adapter=None, sampling=SamplingParams(max_tokens=4))
    try:
        async for output in client.generate(request):
            if output.finish_reason is not None:
                return f"answered {output.finish_reason}"
    except HeadmixServerError as error:
        return f"error {error.code}"
    raise AssertionError("a generation without an end")


_IDS = st.sampled_from(["a", "b", OURS, "", "\x00"])
_TENANTS = st.sampled_from(["t", "u", ""])
_ADAPTERS = st.sampled_from([None, adapter("a"), adapter("b"), adapter("c2")])
_REFS = st.sampled_from([adapter("a"), adapter("c2"), adapter("é")])
_PROMPTS = st.lists(st.integers(-1, 5), max_size=6) | st.sampled_from([[7] * 200, [2**62], [1] * 5000])
_SAMPLING = st.builds(
    SamplingParams,
    max_tokens=st.sampled_from([1, 2, 9, 0, -1, 2**62]),
    temperature=st.sampled_from([0.0, 1.0, float("nan"), 1e308, -1.0]),
    seed=st.sampled_from([0, -(2**63), 2**63 - 1]),
    stop_token_ids=st.sampled_from([(), (1, 2), (-1,)]),
    logprobs=st.sampled_from([None, 0, 3, -1, 10**9]),
    prompt_logprobs=st.booleans(),
)
_WEIGHTS = st.sampled_from([1.0, 0.5, 0.0, -1.0, float("nan"), float("inf"), 1e-300])
_DIGESTS = st.sampled_from([adapter("a").digest, "sha256:0", ""])
_COMMANDS = st.one_of(
    st.builds(
        Generate,
        request_id=_IDS,
        tenant=_TENANTS,
        prompt=_PROMPTS,
        adapter=_ADAPTERS,
        sampling=_SAMPLING,
        weight=_WEIGHTS,
    ),
    st.builds(Classify, request_id=_IDS, tenant=_TENANTS, prompt=_PROMPTS, adapter=_REFS, weight=_WEIGHTS),
    st.builds(
        Embed,
        request_id=_IDS,
        tenant=_TENANTS,
        prompt=_PROMPTS,
        adapter=_ADAPTERS,
        params=st.builds(EmbeddingParams, pooling=st.sampled_from(["mean", "last"]), normalize=st.booleans()),
        weight=_WEIGHTS,
    ),
    st.builds(Abort, request_id=_IDS),
    st.builds(LoadAdapter, request_id=_IDS, adapter=_REFS, pin=st.booleans()),
    st.builds(UnpinAdapter, digest=_DIGESTS),
    st.builds(ForgetAdapter, digest=_DIGESTS),
)
_LOGPROBS = st.none() | st.lists(
    st.builds(TokenLogprob, token=st.integers(-1, 9), logprob=st.sampled_from([-0.5, float("nan"), float("-inf")])),
    max_size=3,
)
_OUTPUTS = st.one_of(
    st.builds(
        TokenOutput,
        request_id=_IDS,
        tokens=st.lists(st.integers(-1, 9), max_size=3),
        logprobs=_LOGPROBS,
        prompt_logprobs=_LOGPROBS,
        finish_reason=st.sampled_from([None, *FinishReason]),
        cached_tokens=st.none() | st.integers(-1, 9),
    ),
    st.builds(Classified, request_id=_IDS, probs=st.lists(st.floats(), max_size=2)),
    st.builds(Embedded, request_id=_IDS, vector=st.lists(st.floats(), max_size=2)),
    st.builds(AdapterLoaded, request_id=_IDS, digest=_DIGESTS, seconds=st.floats()),
    st.builds(
        Failed, request_id=_IDS, code=st.text(max_size=4) | st.just("numerical_error"), message=st.text(max_size=4)
    ),
)
_ACCOUNTS = st.builds(
    Aborted, request_id=_IDS, counts=st.builds(TokenCounts, prompt=st.integers(-1, 9), generated=st.integers(-1, 9))
)
_REPORTS = st.builds(
    EngineReport,
    **{
        name: st.integers(-1, 3)
        for name in ("running", "waiting", "slots_free", "slots_leased", "slots_idle", "slots_loading")
    },
    kv_usage=st.floats(),
)
_NEWS = st.one_of(
    st.builds(Outputs, items=st.lists(_OUTPUTS, max_size=3), aborted=st.lists(_ACCOUNTS, max_size=2)),
    _REPORTS,
    st.just(READY),
    st.builds(EngineRefused, reason=st.text(max_size=4)),
)


def _frames(messages: st.SearchStrategy[Message], to: Literal["engine", "client"]) -> st.SearchStrategy[bytes]:
    def damage(frame: bytes, place: int, byte: int) -> bytes:
        cut = place % (len(frame) + 1)
        return frame[:cut] + bytes([byte]) + frame[cut + 1 :]

    whole = messages.map(encode)
    damaged = st.builds(damage, whole, st.integers(0, 300), st.integers(0, 255)) | st.binary(max_size=12)
    frames = st.lists(whole | whole | whole | damaged, max_size=6)
    return frames.map(lambda given: msgspec.msgpack.encode(Frames(to, given)))


TARGET = Target(_frames(_COMMANDS, "engine") | _frames(_NEWS, "client"), check)
