"""The right answer to a request: its adapter alone, through `inject` on the transformers model.

Knows nothing about the engine, devices or batches. A generation is checked by computing prompt and answer in one pass
and comparing, at every position, the token the sampler takes from transformers' scores (the sampler has its own tests,
and depends only on seed and position). If it takes another token, the answer is forgiven if raising the answered
token's score by `TIE` would make it the choice: a tie, counted and reported.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoModelForCausalLM, PreTrainedModel

from harness.engine.listed_grammar import listed
from harness.engine.sampled_alone import sample
from harness.soak.contents import Content
from harness.soak.tracked_request import TrackedRequest
from headmix_adapters.inject import ClassifierModel, load_adapter
from headmix_adapters.inject.adapted import AdaptedModel
from headmix_adapters.inject.backbone import backbone_of
from headmix_adapters.reference import label_probabilities, pool
from headmix_server.core.grammar import Matcher
from headmix_server.core.messages import Classify, Embed, Generate, LoadAdapter
from headmix_server.core.runner import BatchRow, Sampled
from headmix_server.core.types import UNSCORED, FinishReason, SamplingParams, TokenLogprob

TIE = 1e-4
TOLERANCE = 1e-4
"""The largest allowed difference in a log-probability, probability or vector element; measured errors are near 1e-6."""


@dataclass(slots=True)
class Tally:
    """What was checked: requests, and the tokens of generations; `forgiven` tokens were ties."""

    judged: int = 0
    tokens: int = 0
    forgiven: int = 0
    largest_error: float = 0.0


class Oracle:
    """Checks answered and cancelled requests."""

    def __init__(self, base: Path, eos_ids: frozenset[int]) -> None:
        self.tally = Tally()
        self._model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        self._model.train(mode=False)
        self._eos_ids = eos_ids

    def judge(self, requests: Iterable[TrackedRequest]) -> list[str]:
        """Return what is wrong, one line per request; grouped by adapter, since only one can be attached at a time."""
        groups: dict[str, list[TrackedRequest]] = defaultdict(list)
        for request in requests:
            if request.failure is None and not isinstance(request.message, LoadAdapter):
                groups["" if request.content is None else request.content.digest].append(request)
        return [fault for group in groups.values() for fault in self._judge_group(group[0].content, group)]

    @torch.inference_mode()
    def _judge_group(self, content: Content | None, requests: Sequence[TrackedRequest]) -> list[str]:
        adapted = None if content is None else load_adapter(self._model, content.path)
        faults = []
        try:
            for request in requests:
                self.tally.judged += 1
                if fault := self._fault(request, adapted):
                    name = "the base" if content is None else f"content {content.number}"
                    faults.append(f"{request.message.request_id} with {name}: {fault}")
        finally:
            if adapted is not None:
                adapted.adapter.detach()
        return faults

    def _fault(self, request: TrackedRequest, adapted: AdaptedModel | None) -> str:
        message = request.message
        if isinstance(message, Generate):
            return self._generation_fault(request, message)
        if request.aborted and not request.ended:
            return ""
        ids = torch.tensor([message.prompt]) if not isinstance(message, LoadAdapter) else torch.empty(0)
        if isinstance(message, Embed):
            states = backbone_of(self._model)(input_ids=ids).last_hidden_state[0]
            vector = pool(states, message.params.pooling)
            expected = normalize(vector, dim=-1) if message.params.normalize else vector
            return self._numbers_fault("the vector", request.vector, expected.tolist())
        if isinstance(message, Classify) and isinstance(adapted, ClassifierModel):
            head = adapted.adapter.config.classifier
            if head is None:
                return "the adapter has no head"
            logits = adapted(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
            return self._numbers_fault("the scores", request.probs, label_probabilities(head, logits).tolist())
        return "it cannot be judged"

    # --- generations ---------------------------------------------------------------------------------------------

    def _generation_fault(self, request: TrackedRequest, message: Generate) -> str:
        if fault := self._end_fault(request, message.sampling):
            return fault
        grammar = message.sampling.grammar
        matcher = None if grammar is None else listed(grammar)
        history = [*message.prompt, *request.tokens]
        logits = cast("Tensor", self._model(input_ids=torch.tensor([history])).logits)[0, :-1].float()
        self.tally.tokens += len(request.tokens)
        for position in range(len(message.prompt), len(history)):
            if not self._is_choice(logits[position - 1], history, position, message, matcher):
                return f"token {position - len(message.prompt)} is {history[position]}, not the adapter's choice"
            if matcher is not None:
                matcher.advance(history[position])
        scores = logits.log_softmax(-1)
        first = len(message.prompt) - 1
        if message.sampling.logprobs is not None and (
            fault := self._scores_fault(scores[first:], request.tokens, request.logprobs)
        ):
            return fault
        if message.sampling.prompt_logprobs and request.tokens:
            return self._scores_fault(scores[:first], message.prompt[1:], request.prompt_logprobs or [])
        return ""

    def _end_fault(self, request: TrackedRequest, sampling: SamplingParams) -> str:
        """Return why the generation ended too early or too late; empty if it ended as it must."""
        stops = {*sampling.stop_token_ids, *(() if sampling.ignore_eos else self._eos_ids)}
        longest = None if sampling.grammar is None else sampling.grammar.count("|") + 1
        expected: FinishReason | None = None
        for place, token in enumerate(request.tokens, start=1):
            if expected is not None:
                return f"{len(request.tokens)} tokens were answered, the end was after {place - 1}"
            expected = FinishReason.STOP if token in stops or place == longest else None
            if expected is None and place == sampling.max_tokens:
                expected = FinishReason.LENGTH
        if request.finish_reason != expected:
            return f"the finish reason after {len(request.tokens)} tokens is {request.finish_reason}, not {expected}"
        return "" if request.ended or request.aborted else "it never ended"

    def _is_choice(
        self, logits: Tensor, history: Sequence[int], position: int, message: Generate, matcher: Matcher | None
    ) -> bool:
        row = BatchRow(
            sequence_id=0,
            start=position - 1,
            count=1,
            history=history[:position],
            prompt_length=len(message.prompt),
            blocks=(),
            lease=None,
            samples=True,
            params=message.sampling,
            matcher=matcher,
        )
        token = history[position]
        if token >= logits.numel():
            return False
        if _choice(logits, row, message) == token:
            return True
        nudged = logits.clone()
        nudged[token] += TIE
        forgiven = _choice(nudged, row, message) == token
        self.tally.forgiven += forgiven
        return forgiven

    def _scores_fault(self, scores: Tensor, tokens: Sequence[int], reported: Sequence[TokenLogprob]) -> str:
        """Compare log-probabilities; `scores` [tokens, vocabulary]."""
        if [entry.token for entry in reported] != list(tokens):
            return f"the scored tokens {[entry.token for entry in reported]} are not {list(tokens)}"
        for row, entry in zip(scores, reported, strict=True):
            # a token beyond the scores was added to a base whose head is not tied: it can be read but not generated
            own = float(row[entry.token]) if entry.token < row.numel() else UNSCORED
            expected = [own, *row.topk(len(entry.top)).values.tolist()]
            if fault := self._numbers_fault("a score", [entry.logprob, *(value for _, value in entry.top)], expected):
                return fault
        return ""

    def _numbers_fault(self, what: str, reported: Sequence[float], expected: Sequence[float]) -> str:
        if len(reported) != len(expected):
            return f"{what} has {len(reported)} numbers, not {len(expected)}"
        error = max((abs(a - b) for a, b in zip(reported, expected, strict=True)), default=0.0)
        if not error <= TOLERANCE:  # nothing is close to NaN
            return f"{what} is {error:.1e} off"
        self.tally.largest_error = max(self.tally.largest_error, error)
        return ""


def _choice(logits: Tensor, row: BatchRow, message: Generate) -> int | None:
    sampled = sample(logits[None], [(row, message.sampling)])[0]
    return sampled.token if isinstance(sampled, Sampled) else None
