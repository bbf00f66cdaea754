"""Inputs of every kind that run together: collected first, then computed in one mixed batch.

Owns the way from texts and names to engine requests. It does not know what computes them.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeGuard, TypeVar, cast

import msgspec

from headmix_adapters.config import Pooling
from headmix_adapters.families import usual_pooling
from headmix_server.core.errors import HeadmixServerError, InvalidRequest, TaskMismatch
from headmix_server.core.messages import Classify, Embed, Generate
from headmix_server.core.sampling import for_choice
from headmix_server.core.types import EmbeddingParams, SamplingParams
from headmix_server.llm.adapters import TENANT
from headmix_server.llm.local_model import AdapterChoice, Conversation, LocalModel, Prompt
from headmix_server.llm.results import Classification, Embedding, Generation
from headmix_server.llm.tasks import ClassificationTask, EmbeddingTask, GenerationTask, Task
from headmix_server.llm.tool_reading import Tools, tool_reading
from headmix_server.text.grammars.wanted import Wanted
from headmix_server.text.grammars.write import write_grammar

DEFAULT_SAMPLING = SamplingParams(max_tokens=128)

R = TypeVar("R")
Adapter = str | Mapping[str, float]


class Pending(Generic[R]):
    """The results of one call, in the order of the inputs; available once the batch has run."""

    def __init__(self, tasks: Sequence[Task[R]]) -> None:
        self._tasks = tasks

    def outcomes(self) -> list[R | HeadmixServerError]:
        """Return each input's result, or the error it failed with.

        Raises:
            RuntimeError: the batch has not run.
        """
        if not all(task.done for task in self._tasks):
            raise RuntimeError("the batch has not run: call run() first")
        return [task.result() for task in self._tasks]

    def results(self) -> list[R]:
        """Return each input's result.

        Raises:
            HeadmixServerError: the first error of an input; `outcomes` has the others' results.
            RuntimeError: the batch has not run.
        """
        results = []
        for outcome in self.outcomes():
            if isinstance(outcome, HeadmixServerError):
                raise outcome
            results.append(outcome)
        return results


class Batch:
    """Inputs that run together: add them, call `run` once, then read each call's results.

    A list for `adapter` or `sampling` has one entry per input. In place of a name, `adapter` takes a mapping of names
    to scales: the adapters' terms, each times its scale, are added up; vocabulary and head are the first one's.

    All methods except `run` raise ModelNotFound for an unknown adapter name, TaskMismatch for an adapter or base of
    another task, and InvalidRequest for an empty input, a token id outside the vocabulary, lists of different lengths,
    and adapters that cannot be added up.
    """

    def __init__(self, model: LocalModel, compute: Callable[[Sequence[Task[object]]], None]) -> None:
        self._model = model
        self._compute = compute
        self._tasks: list[Task[object]] = []
        self._numbers = itertools.count()

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        *,
        adapter: AdapterChoice | Sequence[AdapterChoice] = None,
        sampling: SamplingParams | Sequence[SamplingParams] = DEFAULT_SAMPLING,
        stop: Sequence[str] = (),
        form: Wanted | None = None,
    ) -> Pending[Generation]:
        """Add prompts to continue: texts, or lists of token ids.

        A single `sampling` for several prompts gives each its own seed: the seed, the seed plus one, and so on. `form`
        binds every answer: a `JsonText`, `Expression`, `Choice`, `Language` or `TaggedText`.

        Raises:
            GrammarError: the form cannot be enforced.
        """
        return self._generate(as_prompts(prompts), adapter, _bound(sampling, form), stop)

    def chat(
        self,
        conversations: Conversation | Sequence[Conversation],
        *,
        adapter: AdapterChoice | Sequence[AdapterChoice] = None,
        sampling: SamplingParams | Sequence[SamplingParams] = DEFAULT_SAMPLING,
        stop: Sequence[str] = (),
        form: Wanted | None = None,
        tools: Tools | None = None,
    ) -> Pending[Generation]:
        """Add conversations to answer: lists of messages with `role` and `content`. The rest is as for `generate`.

        `tools` are functions, in OpenAI's shape, that the model may call.
        """
        given = as_conversations(conversations)
        choices = [self._model.choose(one) for one in choices_of(adapter, len(given))]
        texts = [self._model.render(turns, chosen.name, tools) for turns, chosen in zip(given, choices, strict=True)]
        # The template writes the special tokens itself.
        return self._generate(texts, adapter, _bound(sampling, form), stop, add_special_tokens=False, tools=tools)

    def classify(
        self, texts: Prompt | Sequence[Prompt], *, adapter: Adapter | Sequence[Adapter]
    ) -> Pending[Classification]:
        """Add texts to score with an adapter's classification head."""
        prompts = as_prompts(texts)
        tasks = []
        for prompt, given in zip(prompts, choices_of(adapter, len(prompts)), strict=True):
            chosen = self._model.choose(given)
            if chosen.name is None:
                raise TaskMismatch("The base alone has no classification head.", param="adapter")
            head = self._model.head(chosen.name)
            request = Classify(
                request_id=self._name(),
                tenant=TENANT,
                prompt=self._model.encode(prompt, chosen.name),
                adapter=self._model.adapters[chosen.name].ref,
                scale=chosen.scale,
                beside=chosen.beside,
            )
            tasks.append(ClassificationTask(request, head))
        return self._pending(tasks)

    def embed(
        self,
        texts: Prompt | Sequence[Prompt],
        *,
        adapter: AdapterChoice | Sequence[AdapterChoice] = None,
        pooling: Pooling | None = None,
        normalize: bool = True,
    ) -> Pending[Embedding]:
        """Add texts to embed; by default, decoders use the last token and encoders the mean."""
        prompts = as_prompts(texts)
        params = EmbeddingParams(pooling=pooling or usual_pooling(self._model.generates), normalize=normalize)
        tasks = []
        for prompt, given in zip(prompts, choices_of(adapter, len(prompts)), strict=True):
            chosen = self._model.choose(given)
            request = Embed(
                request_id=self._name(),
                tenant=TENANT,
                prompt=self._model.encode(prompt, chosen.name),
                adapter=self._model.ref(chosen.name),
                params=params,
                scale=chosen.scale,
                beside=chosen.beside,
            )
            tasks.append(EmbeddingTask(request))
        return self._pending(tasks)

    def run(self) -> None:
        """Compute everything that was added and has not run; returns once every input has its result or error."""
        tasks, self._tasks = self._tasks, []
        self._compute(tasks)

    def _generate(
        self,
        prompts: Sequence[Prompt],
        adapter: AdapterChoice | Sequence[AdapterChoice],
        sampling: SamplingParams | Sequence[SamplingParams],
        stop: Sequence[str],
        *,
        add_special_tokens: bool = True,
        tools: Tools | None = None,
    ) -> Pending[Generation]:
        choices, samplings = choices_of(adapter, len(prompts)), samplings_of(sampling, len(prompts))
        tasks = []
        for prompt, given, params in zip(prompts, choices, samplings, strict=True):
            chosen = self._model.choose(given)
            self._model.check_generates(chosen)
            request = Generate(
                request_id=self._name(),
                tenant=TENANT,
                prompt=self._model.encode(prompt, chosen.name, add_special_tokens=add_special_tokens),
                adapter=self._model.ref(chosen.name),
                sampling=params,
                scale=chosen.scale,
                beside=chosen.beside,
            )
            tokenizer = self._model.tokenizer_of(chosen.name)
            reading = tool_reading(self._model.template_of(chosen.name), tokenizer, tools) if tools else None
            tasks.append(GenerationTask(request, tokenizer, stop, reading))
        return self._pending(tasks)

    def _pending(self, tasks: Sequence[Task[R]]) -> Pending[R]:
        self._tasks.extend(tasks)
        return Pending(tasks)

    def _name(self) -> str:
        return str(next(self._numbers))


def _bound(
    sampling: SamplingParams | Sequence[SamplingParams], form: Wanted | None
) -> SamplingParams | Sequence[SamplingParams]:
    """Return the parameters with the form's grammar."""
    if form is None:
        return sampling
    grammar = write_grammar(form)
    if isinstance(sampling, SamplingParams):
        return msgspec.structs.replace(sampling, grammar=grammar)
    return [msgspec.structs.replace(params, grammar=grammar) for params in sampling]


def as_prompts(given: Prompt | Sequence[Prompt]) -> Sequence[Prompt]:
    """Return a list of prompts; a single one, a text or token ids, becomes a list of one."""
    return [given] if _is_prompt(given) else cast("Sequence[Prompt]", given)


def as_conversations(given: Conversation | Sequence[Conversation]) -> Sequence[Conversation]:
    """Return a list of conversations; a single one, a list of messages, becomes a list of one."""
    alone = len(given) > 0 and isinstance(given[0], Mapping)
    return [cast("Conversation", given)] if alone else cast("Sequence[Conversation]", given)


def choices_of(given: AdapterChoice | Sequence[AdapterChoice], inputs: int) -> Sequence[AdapterChoice]:
    """Return the adapters of each input, or None for the base alone.

    Raises:
        InvalidRequest: the list has a different number of entries.
    """
    alone = given is None or isinstance(given, str | Mapping)
    choices = [cast("AdapterChoice", given)] * inputs if alone else list(cast("Sequence[AdapterChoice]", given))
    _check_length(choices, inputs, "adapter")
    return choices


def samplings_of(given: SamplingParams | Sequence[SamplingParams], inputs: int) -> Sequence[SamplingParams]:
    """Return the parameters for each input; a single one is the same for all except for a given seed.

    Raises:
        InvalidRequest: the list has a different number of parameters.
    """
    if isinstance(given, SamplingParams):
        return [for_choice(given, place) for place in range(inputs)]
    _check_length(given, inputs, "sampling")
    return given


def _is_prompt(given: Prompt | Sequence[Prompt]) -> TypeGuard[Prompt]:
    return isinstance(given, str) or (len(given) > 0 and isinstance(given[0], int))


def _check_length(given: Sequence[object], inputs: int, param: str) -> None:
    if len(given) != inputs:
        raise InvalidRequest(f"{param} has {len(given)} entries for {inputs} inputs.", param=param)
