"""The usage of each choice so far, for every event of a stream: vLLM's `continuous_usage_stats`.

The counts cover the choice alone, its prompt and its tokens, as in vLLM; the stream's last event sums over all choices.
"""

from collections import Counter

from headmix_server.api.inference.generation_job import Job
from headmix_server.api.schemas.common import GenerationUsage, PromptTokensDetails


class ContinuousUsage:
    """Counts the tokens of each of a job's choices; events carry usage only if it is `wanted`."""

    def __init__(self, job: Job, *, wanted: bool) -> None:
        self._job = job
        self._wanted = wanted
        self._tokens: Counter[int] = Counter()

    def add(self, index: int, tokens: int) -> None:
        """Add to the tokens of a choice."""
        self._tokens[index] += tokens

    @property
    def total(self) -> int:
        """The tokens of all choices."""
        return self._tokens.total()

    def of(self, index: int) -> bytes | None:
        """Return a choice's usage as JSON, or None if events carry no usage."""
        if not self._wanted:
            return None
        place = index // self._job.choices
        prompt, completion = len(self._job.prompts[place]), self._tokens[index]
        usage = GenerationUsage(
            prompt_tokens=prompt,
            completion_tokens=completion,
            total_tokens=prompt + completion,
            prompt_tokens_details=PromptTokensDetails(cached_tokens=self._job.record.cached_tokens.get(place, 0)),
        )
        return usage.model_dump_json().encode()
