"""Grammars compiled for a base's vocabulary and for what its adapters add to it.

Owns the library's tokenizers, one for the base and one for each adapter with words of its own, and the matchers. What
may be asked for, `write` decides; who waits, the engine.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from headmix_adapters.artifact import ArtifactError, open_artifact
from headmix_server.core.grammar import GrammarError
from headmix_server.core.types import AdapterRef
from headmix_server.text.grammars.limits import parser_limits
from headmix_server.text.tokenizer import Tokenizer
from headmix_server.text.vocabulary.extended import AddedTokensError, ExtendedTokenizer

KEPT_VOCABULARIES = 16
"""Of adapters with added tokens: some 10 MiB and half a second each."""


_NOTHING_FITS = "NoExtensionBias"
"""The library's name for a place at which no token may come."""


class TokenMatcher:
    """See `core.grammar.Matcher`."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    def allowed(self) -> bytes:
        """See `Matcher`."""
        mask = self._matcher.compute_bitmask()
        self._check()
        return mask

    def allowed_after(self, tokens: Sequence[int]) -> list[bytes]:
        """See `Matcher`; what goes wrong ahead concerns a copy."""
        ahead = self.copy()
        masks = [ahead.allowed()]
        for token in tokens:
            if not ahead._take(token) or ahead._matcher.is_stopped():  # noqa: SLF001 - the same class
                break
            masks.append(ahead.allowed())
        return masks

    def forced(self) -> Sequence[int]:
        """See `Matcher`."""
        ahead = self.copy()
        tokens = ahead._matcher.compute_ff_tokens()  # noqa: SLF001 - the same class
        for place, token in enumerate(tokens):
            if not ahead._take(token) or ahead._matcher.is_stopped():  # noqa: SLF001
                return tokens[:place]
        return tokens

    def _take(self, token: int) -> bool:
        """Take in a token; return false, for good, if it is not allowed."""
        self._matcher.consume_token(token)
        return not self._matcher.is_error()

    def advance(self, token: int) -> bool:
        """See `Matcher`."""
        self._matcher.consume_token(token)
        self._check()
        return self._matcher.is_stopped()

    def copy(self) -> "TokenMatcher":
        """See `Matcher`."""
        return TokenMatcher(self._matcher.deep_copy())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise GrammarError(reason_of(self._matcher.get_error()))


class TokenCompiler:
    """See `core.grammar.GrammarCompiler`. `load` reads the base's tokenizer; `size` is how many ids the base has."""

    def __init__(self, load: Callable[[], Tokenizer], size: int, eos_ids: frozenset[int]) -> None:
        self._load = load
        self._size = size
        self._eos_ids = sorted(eos_ids)
        self._base: tuple[Tokenizer, LLTokenizer] | None = None
        self._extended: OrderedDict[str, LLTokenizer] = OrderedDict()
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Build the library's tokenizer of the base now: for a quarter of a million tokens that takes seconds.

        Raises:
            GrammarError: the base has no token that ends a text.
        """
        self._tokenizer_of(None)

    def compile(self, grammar: str, adapter: AdapterRef | None) -> TokenMatcher:
        """See `GrammarCompiler`."""
        matcher = LLMatcher(self._tokenizer_of(adapter), grammar, log_level=0, limits=parser_limits())
        if matcher.is_error():
            raise GrammarError(reason_of(matcher.get_error()))
        return TokenMatcher(matcher)

    def _tokenizer_of(self, adapter: AdapterRef | None) -> LLTokenizer:
        """Return the library's tokenizer, which the first grammar of a vocabulary has to wait for."""
        words = () if adapter is None else _added_words(adapter)
        with self._lock:
            if self._base is None:
                tokenizer = self._load()
                self._base = (tokenizer, self._build(tokenizer, self._size))
            if adapter is None or not words:
                return self._base[1]
            if adapter.digest not in self._extended:
                self._extended[adapter.digest] = self._extend(self._base[0], words)
                if len(self._extended) > KEPT_VOCABULARIES:
                    self._extended.popitem(last=False)
            self._extended.move_to_end(adapter.digest)
            return self._extended[adapter.digest]

    def _extend(self, base: Tokenizer, words: Sequence[str]) -> LLTokenizer:
        try:
            tokenizer = ExtendedTokenizer(base, words, self._size)
        except AddedTokensError as error:
            raise GrammarError(str(error)) from error
        return self._build(tokenizer, self._size + len(words))

    def _build(self, tokenizer: Tokenizer, size: int) -> LLTokenizer:
        ends = self._eos_ids or sorted(tokenizer.eos_ids)
        if not ends:
            raise GrammarError("the base has no token that ends a text")
        return LLTokenizer(TokenizerWrapper(_Vocabulary(tokenizer, size, ends[0])), n_vocab=size, eos_token=ends)


@dataclass(frozen=True, slots=True)
class _Vocabulary:
    """A tokenizer as the library wants it: an id without a token has no bytes, so it is never allowed."""

    tokenizer: Tokenizer
    size: int
    eos_token_id: int
    bos_token_id: int | None = None

    @property
    def special_token_ids(self) -> list[int]:
        return [token for token in range(self.size) if self._is_special(token)]

    @property
    def tokens(self) -> list[bytes]:
        return [self._bytes(token) for token in range(self.size)]

    def _bytes(self, token: int) -> bytes:
        if self._is_special(token):
            return (self.tokenizer.piece(token) or "").encode()
        return self.tokenizer.token_bytes(token) or b""

    def _is_special(self, token: int) -> bool:
        return self.tokenizer.piece(token) is not None and self.tokenizer.is_hidden(token)

    def __call__(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)


def reason_of(error: str) -> str:
    """Return one of the library's errors without its marks, in words where it has only a name."""
    reason = error.removesuffix("\n<non-verbose/>")
    return "no text fits" if reason == _NOTHING_FITS else reason


def _added_words(adapter: AdapterRef) -> Sequence[str]:
    try:
        return open_artifact(Path(adapter.path)).config.added_tokens
    except (OSError, ArtifactError) as error:
        raise GrammarError(f"the adapter's header cannot be read: {error}") from error
