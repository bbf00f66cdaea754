"""headmix in one process: a base, its adapters, and batches in which each input may use another adapter.

Owns the engine and its life. No server, keys or tenants; the engine and the runner are the server's own.
"""

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from headmix_adapters.base.gguf.progress_bar import resolve_visibly
from headmix_adapters.config import Pooling
from headmix_adapters.text.chat_template import load_chat_template
from headmix_server.core.messages import Abort, ForgetAdapter
from headmix_server.core.observability.logging import quiet_logging
from headmix_server.core.settings.settings import Settings
from headmix_server.core.types import SamplingParams
from headmix_server.llm.adapters import Adapters
from headmix_server.llm.batch import DEFAULT_SAMPLING, Adapter, Batch
from headmix_server.llm.local_model import AdapterChoice, Conversation, LocalModel, Prompt
from headmix_server.llm.results import Classification, Embedding, Generation
from headmix_server.llm.session import build_engine, run_step
from headmix_server.llm.tasks import Task
from headmix_server.llm.tool_reading import Tools
from headmix_server.text.grammars.wanted import Wanted
from headmix_server.text.tokenizer import load_tokenizer

SHOWN_FROM = 8
"""The number of inputs from which a batch shows its progress, on standard error if that is a terminal."""


class LLM:
    """A base model and the adapters on it, in this process.

        with LLM("smollm2-135m-instruct", adapters={"kingjames": "examples/adapters/kingjames.safetensors"}) as llm:
            llm.chat([{"role": "user", "content": "Where are you going?"}], adapter="kingjames")

    `base` is an embedded name, a local folder, a GGUF file or a hub id; an adapter is an artifact's file or a PEFT
    folder. `settings` are the server's (docs/settings.md): `quantize="int8"`, `device="cuda"`. Every method that
    computes returns one result per input, in order; it raises as `Batch` does, and the first error of an input. Threads
    may share an `LLM`; their batches run one after another.

    Raises:
        BaseError, StartError: the base cannot be served with these settings.
        ArtifactError, ConvertError, AddedTokensError: an adapter does not fit it.
        pydantic.ValidationError: a setting's value is invalid.
    """

    def __init__(
        self,
        base: str = "smollm2-135m-instruct",
        *,
        adapters: Mapping[str, str | Path] | None = None,
        progress: bool = True,
        **settings: Any,  # noqa: ANN401 - pydantic checks each against its field
    ) -> None:
        quiet_logging()
        self._settings = Settings(base=base, **settings)
        self._progress = progress
        resolved = resolve_visibly(self._settings.base)
        tokenizer = load_tokenizer(resolved.folder)
        self._engine = build_engine(resolved, self._settings)
        self._lock = threading.Lock()
        self._model = LocalModel(
            base=resolved,
            tokenizer=tokenizer,
            chat_template=load_chat_template(resolved.folder, tokenizer.special_tokens),
            generates=not self._engine.limits.whole_prompts,
            adapters=Adapters(resolved, tokenizer, self._settings),
        )
        try:
            for name, source in (adapters or {}).items():
                self.add_adapter(name, source)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop the engine's threads and remove converted artifacts; the memory is freed with the object."""
        self._engine.close()
        self._model.adapters.close()

    @property
    def base(self) -> str:
        """The base's name."""
        return self._model.base.name

    @property
    def adapters(self) -> tuple[str, ...]:
        """The names of the adapters."""
        return tuple(self._model.adapters)

    def add_adapter(self, name: str, source: str | Path, *, allow_base_mismatch: bool = False) -> None:
        """Add an adapter, an artifact's file or a PEFT folder; it replaces one of the same name.

        Raises:
            ArtifactError, ConvertError, AddedTokensError: it does not fit the base; every fault is listed.
            OSError: it cannot be read.
        """
        with self._lock:
            self._forget(self._model.adapters.add(name, Path(source), allow_base_mismatch=allow_base_mismatch))

    def remove_adapter(self, name: str) -> None:
        """Remove an adapter and free its memory.

        Raises:
            ModelNotFound: there is no such adapter.
        """
        with self._lock:
            self._forget(self._model.adapters.remove(name))

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        *,
        adapter: AdapterChoice | Sequence[AdapterChoice] = None,
        sampling: SamplingParams | Sequence[SamplingParams] = DEFAULT_SAMPLING,
        stop: Sequence[str] = (),
        form: Wanted | None = None,
    ) -> list[Generation]:
        """Continue prompts, texts or lists of token ids, with one adapter for all or one for each.

        In place of a name, `adapter` takes several with their scales: `{"kingjames": 0.7, "dictionary": 0.3}`.
        """
        batch = self.batch()
        pending = batch.generate(prompts, adapter=adapter, sampling=sampling, stop=stop, form=form)
        batch.run()
        return pending.results()

    def chat(
        self,
        conversations: Conversation | Sequence[Conversation],
        *,
        adapter: AdapterChoice | Sequence[AdapterChoice] = None,
        sampling: SamplingParams | Sequence[SamplingParams] = DEFAULT_SAMPLING,
        stop: Sequence[str] = (),
        form: Wanted | None = None,
        tools: Tools | None = None,
    ) -> list[Generation]:
        """Answer conversations, lists of messages with `role` and `content`, with the adapter's chat template, or the
        base's.

        `tools` are functions, in OpenAI's shape, that the model may call.
        """
        batch = self.batch()
        pending = batch.chat(conversations, adapter=adapter, sampling=sampling, stop=stop, form=form, tools=tools)
        batch.run()
        return pending.results()

    def classify(
        self, texts: Prompt | Sequence[Prompt], *, adapter: Adapter | Sequence[Adapter]
    ) -> list[Classification]:
        """Score texts with the classification head of one adapter, or of one for each."""
        batch = self.batch()
        pending = batch.classify(texts, adapter=adapter)
        batch.run()
        return pending.results()

    def embed(
        self,
        texts: Prompt | Sequence[Prompt],
        *,
        adapter: AdapterChoice | Sequence[AdapterChoice] = None,
        pooling: Pooling | None = None,
        normalize: bool = True,
    ) -> list[Embedding]:
        """Embed texts: the pooled final hidden states of the base, alone or with an adapter."""
        batch = self.batch()
        pending = batch.embed(texts, adapter=adapter, pooling=pooling, normalize=normalize)
        batch.run()
        return pending.results()

    def batch(self) -> Batch:
        """Return an empty batch, for inputs of several kinds that should run together."""
        return Batch(self._model, self._compute)

    def _forget(self, digest: str | None) -> None:
        if digest is not None:
            self._engine.forget(ForgetAdapter(digest=digest))

    def _compute(self, tasks: Sequence[Task[object]]) -> None:
        """Run tasks to completion; even after an interruption, the engine has nothing left of them."""
        with self._lock, self._bar(len(tasks)) as bar:
            shown = bar.add_task(self.base, total=len(tasks))
            waiting, running = deque(tasks), dict[str, Task[object]]()
            try:
                while waiting or running:
                    while waiting and len(running) < self._settings.max_waiting:
                        task = waiting.popleft()
                        running[task.request.request_id] = task
                        self._engine.submit(task.request)
                    before = len(running)
                    self._step(running)
                    bar.advance(shown, before - len(running))
            finally:
                for request_id in running:
                    self._engine.abort(Abort(request_id=request_id))
                while not self._engine.idle:
                    run_step(self._engine)
                self._engine.check_integrity()

    def _step(self, running: dict[str, Task[object]]) -> None:
        for output in run_step(self._engine):
            task = running.get(output.request_id)
            if task is None:
                continue  # already ended by a stop string
            task.take(output)
            if task.done:
                del running[output.request_id]
                if not task.answer.ended:
                    self._engine.abort(Abort(request_id=output.request_id))

    def _bar(self, inputs: int) -> Progress:
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        shown = self._progress and inputs >= SHOWN_FROM and console.is_terminal
        return Progress(*columns, console=console, transient=True, disable=not shown)
