"""Owns the types of tokenization."""

from headmix.types.result import Result


class Tokenization(Result):
    """The response of POST /tokenize; `max_model_len` is the length of the model's context."""

    count: int
    max_model_len: int
    tokens: tuple[int, ...]
    token_strs: tuple[str, ...] | None = None


class Detokenization(Result):
    """The response of POST /detokenize."""

    prompt: str

    @property
    def text(self) -> str:
        """The tokens' text."""
        return self.prompt
