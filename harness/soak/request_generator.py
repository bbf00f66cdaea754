"""Random requests: prompts with shared prefixes, all kinds of sampling, embeddings and classifications."""

import random

from msgspec.structs import replace

from harness.soak.contents import Content
from headmix_adapters.config import Pooling
from headmix_server.core.messages import Classify, Embed, Generate, Request
from headmix_server.core.types import AdapterRef, EmbeddingParams, SamplingParams

_FIRST_WORD = 20  # lower ids are special tokens, which may end a generation
_POOLINGS: tuple[Pooling, ...] = ("last", "mean", "cls")


class RequestGenerator:
    """Draws requests. Most prompts start with one of a few long texts, cut at many lengths, to share caches."""

    def __init__(self, rng: random.Random, vocab_size: int, longest: int) -> None:
        self._rng = rng
        self._vocab_size = vocab_size
        self._longest = longest
        self._openings = [self._words(28) for _ in range(3)]

    def _words(self, count: int) -> list[int]:
        return [self._rng.randrange(_FIRST_WORD, self._vocab_size) for _ in range(count)]

    def prompt(self, num_added: int) -> list[int]:
        """Draw a prompt, with added tokens if the adapter has some."""
        rng = self._rng
        if rng.random() < 0.8:
            opening = rng.choice(self._openings)
            prompt = opening[: rng.choice((4, 8, 11, 16, 28))] + rng.choice(([], [30], [31, 32, 33, 34, 35]))
        else:
            prompt = self._words(rng.randint(1, 40))
        if num_added and rng.random() < 0.5:
            prompt[rng.randrange(len(prompt))] = self._vocab_size + rng.randrange(num_added)
        return prompt

    def requests(self, request_id: str, tenant: str, ref: AdapterRef | None, content: Content | None) -> list[Request]:
        """Draw what a client requests with one call: one request, or `n` choices for one prompt."""
        prompt = self.prompt(0 if content is None else content.num_added)
        if content is not None and content.classifies and ref is not None and self._rng.random() < 0.8:
            return [Classify(request_id=request_id, tenant=tenant, prompt=prompt, adapter=ref)]
        if (content is not None and content.classifies) or self._rng.random() < 0.15:
            params = EmbeddingParams(pooling=self._rng.choice(_POOLINGS), normalize=self._rng.random() < 0.5)
            return [Embed(request_id=request_id, tenant=tenant, prompt=prompt, adapter=ref, params=params)]
        sampling = replace(self._sampling(), grammar=self._grammar())
        choices = self._rng.choice((1, 1, 1, 2, 3))
        return [
            Generate(
                request_id=f"{request_id}-{choice}",
                tenant=tenant,
                prompt=prompt,
                adapter=ref,
                sampling=with_seed(sampling, sampling.seed + choice),
            )
            for choice in range(choices)
        ]

    def _sampling(self) -> SamplingParams:
        rng = self._rng
        greedy = rng.random() < 0.6
        return SamplingParams(
            max_tokens=rng.choice((1, 2, 5, 9, 14)),
            temperature=0 if greedy else rng.choice((0.7, 1.0)),
            top_k=0 if greedy else rng.choice((0, 5)),
            top_p=1.0 if greedy else rng.choice((1.0, 0.9)),
            min_p=0.0 if greedy else rng.choice((0.0, 0.01)),
            repetition_penalty=rng.choice((1.0, 1.0, 1.3)),
            presence_penalty=rng.choice((0.0, 0.0, 0.5)),
            seed=rng.randrange(4),
            stop_token_ids=tuple(rng.sample(range(_FIRST_WORD, self._vocab_size), 12)) if rng.random() < 0.3 else (),
            ignore_eos=rng.random() < 0.8,
            logprobs=rng.choice((None, None, 0, 2)),
            prompt_logprobs=rng.random() < 0.1,
        )

    def _grammar(self) -> str | None:
        """Draw a grammar as `ListedCompiler` reads it, for one generation in five."""
        rng = self._rng
        if rng.random() > 0.2:
            return None
        words = range(_FIRST_WORD, self._vocab_size)
        places = [rng.sample(words, rng.choice((1, 2, 40))) for _ in range(rng.choice((1, 3, 20)))]
        return "|".join(",".join(map(str, place)) for place in places)

    def too_long(self, request_id: str, tenant: str) -> Generate:
        """Return a request for more tokens than possible."""
        return Generate(
            request_id=request_id,
            tenant=tenant,
            prompt=self._words(8),
            adapter=None,
            sampling=SamplingParams(max_tokens=self._longest),
        )


def with_seed(sampling: SamplingParams, seed: int) -> SamplingParams:
    """Return the parameters with another seed, since each choice of a call has its own."""
    return replace(sampling, seed=seed)
