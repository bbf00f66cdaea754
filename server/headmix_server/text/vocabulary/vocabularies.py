"""The tokenizer of every adapter: the base's own, or one with its added words, cached by digest.

These tokenizers show tokens and find which texts contain words; they take no more memory than the words themselves.
Texts with words need a copy of the base's tokenizer, which the workers create and cache (`encoders`).
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence

from headmix_server.text.tokenizer import Tokenizer
from headmix_server.text.vocabulary.extended import ExtendedTokenizer

KEPT_WORDS = 65_536
"""The words of all tokenizers together: about 20 MiB."""


class Vocabularies:
    """Tokenizers by digest; safe to share between threads. `size` is the number of the base's embedding rows."""

    def __init__(self, base: Tokenizer, size: int, *, kept_words: int = KEPT_WORDS) -> None:
        self._base = base
        self._size = size
        self._kept_words = kept_words
        self._num_words = 0
        self._extended: OrderedDict[str, ExtendedTokenizer] = OrderedDict()
        self._lock = threading.Lock()

    def kept(self, digest: str, words: Sequence[str]) -> Tokenizer | None:
        """Return the tokenizer of an adapter that adds these words if it is cached."""
        if not words:
            return self._base
        with self._lock:
            tokenizer = self._extended.get(digest)
            if tokenizer is not None:
                self._extended.move_to_end(digest)
            return tokenizer

    def tokenizer(self, digest: str, words: Sequence[str]) -> Tokenizer:
        """Return the tokenizer of an adapter that adds these words; thousands of words may take some milliseconds.

        Raises:
            AddedTokensError: they cannot be added to the base's vocabulary.
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
