"""Answers of random weights to schemas: those that are accepted, all in one batch; and what is wrong with them.

Random weights at a high temperature are the best adversary: they choose whatever a grammar leaves open.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.schemas.keywords import Schema
from harness.schemas.misfit import misfit
from headmix_server import LLM
from headmix_server.core.errors import HeadmixServerError
from headmix_server.core.grammar import GrammarError
from headmix_server.core.types import FinishReason, SamplingParams
from headmix_server.llm.results import Generation
from headmix_server.text.grammars.trial import try_grammar
from headmix_server.text.grammars.wanted import JsonText
from headmix_server.text.grammars.write import write_grammar
from headmix_server.text.tokenizer import Tokenizer, load_tokenizer
from headmix_server.text.workers.encoders import Encoders

MAX_TOKENS = 96
MARKS = b'"}],'
"""What ends a part of a JSON text; random weights seldom choose it, so it is made likelier by `BIAS`."""
BIAS = 6.0


@dataclass(frozen=True, slots=True)
class Answers:
    """The schemas by what became of them; `answers` are those to the accepted ones, in order."""

    accepted: list[Schema]
    refusals: list[tuple[Schema, str]]
    answers: list[Generation | HeadmixServerError]

    @property
    def ended(self) -> list[tuple[Schema, str]]:
        """The schemas and texts of the answers that ended by themselves."""
        return [
            (schema, answer.text)
            for schema, answer in zip(self.accepted, self.answers, strict=True)
            if isinstance(answer, Generation) and answer.finish_reason is FinishReason.STOP
        ]

    def wrong(self) -> Iterator[tuple[Schema, str, str]]:
        """Yield each text that has ended and does not fit its schema, with the reason."""
        for schema, text in self.ended:
            if reason := misfit(schema, text):
                yield schema, text, reason


def answer_all(llm: LLM, base: Path, wanted: Sequence[Schema]) -> Answers:
    """Answer each schema that the server would accept, at temperature 1.5."""
    encoders, biases = Encoders(base), _biases(load_tokenizer(base))
    accepted: list[Schema] = []
    refusals: list[tuple[Schema, str]] = []
    params: list[SamplingParams] = []
    for seed, schema in enumerate(wanted):
        try:
            grammar = write_grammar(JsonText(schema))
            try_grammar(encoders.grammars, grammar)
        except GrammarError as error:
            refusals.append((schema, str(error)))
            continue
        accepted.append(schema)
        params.append(
            SamplingParams(max_tokens=MAX_TOKENS, temperature=1.5, seed=seed, grammar=grammar, logit_bias=biases)
        )
    batch = llm.batch()
    pending = batch.generate(["A thing:"] * len(params), sampling=params)
    batch.run()
    return Answers(accepted, refusals, pending.outcomes())


def _biases(tokenizer: Tokenizer) -> tuple[tuple[int, float], ...]:
    texts = {token: tokenizer.token_bytes(token) or b"" for token in range(tokenizer.vocab_size)}
    return tuple((token, BIAS) for token, text in texts.items() if set(text) & set(MARKS))
