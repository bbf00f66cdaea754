"""Owns the types of a text completion, whole and streamed."""

from headmix.types.result import Part, Result, Usage


class CompletionLogprobs(Part):
    """For each token of the text: its string, its log probability, the best alternatives, its offset in the text."""

    tokens: tuple[str, ...] = ()
    token_logprobs: tuple[float | None, ...] = ()
    top_logprobs: tuple[dict[str, float] | None, ...] | None = None
    text_offset: tuple[int, ...] = ()


class CompletionChoice(Part):
    """One generated text; `finish_reason` is `stop` or `length`, and None in chunks before the last."""

    index: int
    text: str
    finish_reason: str | None = None
    logprobs: CompletionLogprobs | None = None


class Completion(Result):
    """The response of POST /v1/completions."""

    id: str
    created: int
    model: str
    choices: tuple[CompletionChoice, ...]
    usage: Usage | None = None

    @property
    def text(self) -> str:
        """The first choice's text."""
        return self.choices[0].text if self.choices else ""


class CompletionChunk(Completion):
    """One event of a streamed completion: `text` is what is new since the previous chunk."""
