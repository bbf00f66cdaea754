"""One input of a batch: its request, the answer so far, and the result made of it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

from headmix_adapters.config import ClassifierConfig
from headmix_server.core.errors import HeadmixServerError, InternalError
from headmix_server.core.labels import read_scores
from headmix_server.core.messages import Classify, Embed, Generate, Output, Request, TokenOutput
from headmix_server.core.types import FinishReason
from headmix_server.llm.results import Classification, Embedding, Generation
from headmix_server.llm.session import Answer
from headmix_server.llm.tool_reading import Read, ToolReading
from headmix_server.text.completion import CompletionText
from headmix_server.text.detokenize import NO_MARKERS
from headmix_server.text.tokenizer import Tokenizer

R_co = TypeVar("R_co", covariant=True)


class Task(ABC, Generic[R_co]):
    """One input: a request, and its answer as it grows."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.answer = Answer()
        self.done = False

    def take(self, output: Output) -> None:
        """Add one of the engine's outputs; `done` becomes true if nothing more is to be expected."""
        self.answer.add(output)
        self.done = self.answer.ended

    def result(self) -> R_co | HeadmixServerError:
        """Return the input's result, or the error it failed with."""
        return self.answer.error or self._result()

    @abstractmethod
    def _result(self) -> R_co: ...


class GenerationTask(Task[Generation]):
    """A prompt that is continued until its end, its length limit, or a stop string."""

    def __init__(
        self, request: Generate, tokenizer: Tokenizer, stops: Sequence[str], reading: ToolReading | None = None
    ) -> None:
        super().__init__(request)
        self._prompt, self._tokenizer, self._reading = request.prompt, tokenizer, reading
        markers = NO_MARKERS if reading is None else reading.markers
        self._completion = CompletionText(tokenizer, request.prompt, request.sampling, stops, markers)
        self._text: list[str] = []
        self._finish_reason: FinishReason | None = None

    def take(self, output: Output) -> None:
        """Add tokens; a stop string in them ends the generation before the engine does."""
        super().take(output)
        if isinstance(output, TokenOutput):
            delta = self._completion.add(output)
            self._text.append(delta.text)
            self._finish_reason = delta.finish_reason
            self.done = delta.finish_reason is not None

    def _result(self) -> Generation:
        if self._finish_reason is None:
            raise InternalError("a generation has no end")
        text = "".join(self._text)
        read = Read(text, "", ()) if self._reading is None else self._reading.read(self._tokenizer, self._prompt, text)
        return Generation(
            text=read.text,
            tokens=tuple(self.answer.tokens),
            finish_reason=self._finish_reason,
            prompt_tokens=len(self._prompt),
            logprobs=tuple(self.answer.logprobs),
            tool_calls=read.calls,
            reasoning=read.reasoning,
        )


class ClassificationTask(Task[Classification]):
    """A text that an adapter's classification head scores."""

    def __init__(self, request: Classify, head: ClassifierConfig) -> None:
        super().__init__(request)
        self._head = head

    def _result(self) -> Classification:
        label, reached = read_scores(self.answer.probs, self._head)
        scores = dict(zip(self._head.labels, self.answer.probs, strict=True))
        return Classification(label=label, scores=scores, labels=reached or ())


class EmbeddingTask(Task[Embedding]):
    """A text to embed."""

    def __init__(self, request: Embed) -> None:
        super().__init__(request)

    def _result(self) -> Embedding:
        return Embedding(tuple(self.answer.vector))
