"""How many tokens a file has, from its characters."""

from headmix_adapters.text.base_text import BaseText

_SAMPLES = 200
_SAMPLE_CHARS = 4096
_TOKENS_PER_CHAR = 0.25


class TokenEstimate:
    """Uses the rate of the first texts' beginnings if there is a tokenizer, else four characters a token."""

    def __init__(self, base: BaseText | None) -> None:
        self._base = base
        self._chars = 0
        self._samples = self._sampled_chars = self._sampled_tokens = 0

    def add(self, text: str) -> None:
        """Count a text."""
        self._chars += len(text)
        if self._base is not None and self._samples < _SAMPLES:
            beginning = text[:_SAMPLE_CHARS]
            self._samples += 1
            self._sampled_chars += len(beginning)
            self._sampled_tokens += len(self._base.tokenizer.encode(beginning))

    def add_chars(self, count: int) -> None:
        """Count a text by its length."""
        self._chars += count

    @property
    def tokens(self) -> int:
        """About how many tokens all texts have together."""
        rate = self._sampled_tokens / self._sampled_chars if self._sampled_chars else _TOKENS_PER_CHAR
        return round(self._chars * rate)
