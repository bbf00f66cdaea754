"""The tokenizer of every adapter: the base's own, or one with its added words, kept by digest while it is in use.

These show tokens and say which texts hold words; they cost no more than the words themselves. What reads texts with
words is a copy of the base's tokenizer, and made and kept by the workers (`encoders`).
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence

from headmix_server.text.tokenizer import Tokenizer
from headmix_server.text.vocabulary.extended import ExtendedTokenizer

KEPT_WORDS = 65_536
"""Of all tokenizers together: some 20 MiB."""


class Vocabularies:
    """Tokenizers by digest; safe to share between threads. `size` is how many ids the base has embeddings for."""

    def __init__(self, base: Tokenizer, size: int, *, kept_words: int = KEPT_WORDS) -> None:
        self._base = base
        self._size = size
        self._kept_words = kept_words
        self._num_words = 0
        self._extended: OrderedDict[str, ExtendedTokenizer] = OrderedDict()
        self._lock = threading.Lock()

    def kept(self, digest: str, words: Sequence[str]) -> Tokenizer | None:
        """Return the tokenizer of an adapter that adds these words if it is at hand."""
        if not words:
            return self._base
        with self._lock:
            tokenizer = self._extended.get(digest)
            if tokenizer is not None:
                self._extended.move_to_end(digest)
            return tokenizer

    def tokenizer(self, digest: str, words: Sequence[str]) -> Tokenizer:
        """Return the tokenizer of an adapter that adds these words; of thousands it may take some milliseconds.

        Raises:
            AddedTokensError: the base's vocabulary cannot take them.
        """
        kept = self.kept(digest, words)
        if kept is not None:
            return kept
        made = ExtendedTokenizer(self._base, words, self._size, digest=digest)
        with self._lock:
            tokenizer = self._extended.setdefault(digest, made)
            if tokenizer is made:
                self._num_words += len(words)
            while self._num_words > self._kept_words and len(self._extended) > 1:
                _, oldest = self._extended.popitem(last=False)
                self._num_words -= oldest.num_words
        return tokenizer
