"""An engine in this process on a real runner, for measurements and comparisons without HTTP between."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from headmix_adapters.artifact import digest_file, open_artifact
from headmix_adapters.base import ResolvedBase
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
from headmix_server.core.settings import Settings
from headmix_server.core.types import AdapterRef
from headmix_server.engine.loop import Engine
from headmix_server.worker import build_runner


@dataclass(slots=True)
class Answer:
    """Everything the engine said to one request; `gaps`: how far the top two log-probabilities lie apart, by token."""

    tokens: list[int] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    probs: list[float] = field(default_factory=list)
    vector: list[float] = field(default_factory=list)
    failure: str | None = None


def build_engine(base: ResolvedBase, settings: Settings) -> Engine:
    """Build the engine the server would run with these settings."""
    runner, limits = build_runner(settings, base)
    return Engine(runner, limits)


def adapter_ref(path: Path) -> AdapterRef:
    """Refer to an artifact by its file."""
    base = open_artifact(path).config.base.fingerprint
    return AdapterRef(digest=digest_file(path), base=base, path=str(path), name=path.stem, version=1, tenant="default")


class EngineRig:
    """Feeds an engine and collects its answers."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.answers: dict[str, Answer] = {}

    def submit(self, request: Request) -> None:
        """Hand in a request."""
        self.answers[request.request_id] = Answer()
        self.engine.submit(request)

    def load(self, adapter: AdapterRef) -> None:
        """Ask for an adapter ahead of requests."""
        request_id = f"load {adapter.digest}"
        self.answers[request_id] = Answer()
        self.engine.load(LoadAdapter(request_id=request_id, adapter=adapter))

    def step(self) -> None:
        """Run one step and sort what it says to the requests."""
        for output in self.engine.step():
            self._take(output)

    def drain(self) -> None:
        """Step until everything is answered, then check every account."""
        while not self.engine.idle:
            self.step()
        self.engine.check_integrity()

    def _take(self, output: Output) -> None:
        answer = self.answers[output.request_id]
        match output:
            case TokenOutput():
                answer.tokens.extend(output.tokens)
                for logprob in output.logprobs or ():
                    if len(logprob.top) > 1:
                        answer.gaps.append(logprob.top[0][1] - logprob.top[1][1])
            case Classified():
                answer.probs = list(output.probs)
            case Embedded():
                answer.vector = list(output.vector)
            case AdapterLoaded():
                pass
            case Failed():
                answer.failure = f"{output.code}: {output.message}"
            case _:
                raise ValueError(f"unexpected output: {output}")


def random_prompt(length: int, vocab_size: int, seed: int) -> list[int]:
    """Return random token ids, never the first few, where special tokens live."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(20, vocab_size, (length,), generator=generator).tolist()
