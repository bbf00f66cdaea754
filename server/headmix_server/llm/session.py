"""Drives an engine in the calling thread: requests in, steps, answers out.

Owns the loop that the engine process runs around its socket, without a socket. It knows token ids and artifacts, but
neither texts nor names.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import assert_never

from headmix_adapters.artifact import digest_file, open_artifact
from headmix_adapters.base import ResolvedBase
from headmix_server.core.errors import HeadmixServerError, error_from_code
from headmix_server.core.messages import (
    AdapterLoaded,
    Classified,
    Embedded,
    Failed,
    LoadAdapter,
    Output,
    Request,
    TokenOutput,
)
from headmix_server.core.settings.settings import Settings
from headmix_server.core.types import AdapterRef, FinishReason, TokenLogprob
from headmix_server.engine.loop import Engine
from headmix_server.engine.server import LOADING_POLL_SECONDS
from headmix_server.worker import build_runner, grammar_compiler


@dataclass(slots=True)
class Answer:
    """Everything the engine returned for one request so far; `ended` once nothing follows."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    probs: list[float] = field(default_factory=list)
    vector: list[float] = field(default_factory=list)
    failed: Failed | None = None
    ended: bool = False

    @property
    def failure(self) -> str | None:
        """The error's code and message; None if there is none."""
        return None if self.failed is None else f"{self.failed.code}: {self.failed.message}"

    @property
    def error(self) -> HeadmixServerError | None:
        """The error as the server's clients would receive it; None if there is none."""
        return None if self.failed is None else error_from_code(self.failed.code, self.failed.message)

    @property
    def gaps(self) -> list[float]:
        """The difference between the log-probabilities of the two best tokens, for each position that has them."""
        return [entry.top[0][1] - entry.top[1][1] for entry in self.logprobs if len(entry.top) > 1]

    def add(self, output: Output) -> None:
        """Add one of the engine's outputs."""
        match output:
            case TokenOutput():
                self.tokens.extend(output.tokens)
                self.logprobs.extend(output.logprobs or ())
                self.finish_reason = output.finish_reason
                self.ended = output.finish_reason is not None
            case Classified():
                self.probs, self.ended = list(output.probs), True
            case Embedded():
                self.vector, self.ended = list(output.vector), True
            case AdapterLoaded():
                self.ended = True
            case Failed():
                self.failed, self.ended = output, True
            case _:
                assert_never(output)


class EngineSession:
    """Feeds an engine and collects each request's answer in `answers`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.answers: dict[str, Answer] = {}

    def submit(self, request: Request) -> None:
        """Queue a request; its answer grows with each step."""
        self.answers[request.request_id] = Answer()
        self.engine.submit(request)

    def load(self, adapter: AdapterRef) -> None:
        """Load an adapter onto the device ahead of requests."""
        message = LoadAdapter(request_id=f"load {adapter.digest}", adapter=adapter)
        self.answers[message.request_id] = Answer()
        self.engine.load(message)

    def step(self) -> None:
        """Run one step and add its outputs to the answers."""
        for output in run_step(self.engine):
            self.answers[output.request_id].add(output)

    def drain(self) -> None:
        """Step until every request is answered, then check the engine's integrity."""
        while not self.engine.idle:
            self.step()
        self.engine.check_integrity()


def run_step(engine: Engine) -> list[Output]:
    """Run one step and return its outputs; waits briefly if nothing can happen before a load in progress ends."""
    outputs = engine.step()
    engine.accounts.take()
    if not outputs and engine.stalled:
        time.sleep(LOADING_POLL_SECONDS)
    return outputs


def build_engine(base: ResolvedBase, settings: Settings) -> Engine:
    """Build the engine that the server would run with these settings.

    Raises:
        StartError: as `build_runner`.
    """
    runner, limits = build_runner(settings, base)
    return Engine(runner, limits, compiler=grammar_compiler(base, limits))


def adapter_ref(path: Path) -> AdapterRef:
    """Return the reference to an artifact's file."""
    base = open_artifact(path).config.base.fingerprint
    return AdapterRef(digest=digest_file(path), base=base, path=str(path), name=path.stem, version=1, tenant="default")
