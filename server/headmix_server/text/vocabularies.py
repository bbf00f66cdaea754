"""The tokenizer of every adapter: the base's own, or a copy with its added words, kept by digest while it is in use.

A copy costs as much memory as the base's tokenizer and a fraction of a second, so those used last are kept and no more.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence

from headmix_server.text.extended import ExtendedTokenizer
from headmix_server.text.tokenizer import Tokenizer

KEPT = 16


class Vocabularies:
    """Tokenizers by digest; safe to share between threads. `size` is how many ids the base has embeddings for."""

    def __init__(self, base: Tokenizer, size: int, *, kept: int = KEPT) -> None:
        self._base = base
        self._size = size
        self._kept = kept
        self._extended: OrderedDict[str, ExtendedTokenizer] = OrderedDict()
        self._lock = threading.Lock()

    def tokenizer(self, digest: str, words: Sequence[str]) -> Tokenizer:
        """Return the tokenizer of an adapter that adds these words; may take a fraction of a second.

        Raises:
            AddedTokensError: the base's vocabulary cannot take them.
        """
        if not words:
            return self._base
        with self._lock:
            tokenizer = self._extended.get(digest) or ExtendedTokenizer(self._base, words, self._size)
            self._extended[digest] = tokenizer
            self._extended.move_to_end(digest)
            while len(self._extended) > self._kept:
                self._extended.popitem(last=False)
        return tokenizer
