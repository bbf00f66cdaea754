"""Token ids to text as they arrive, never showing half a character.

Decoding token by token is wrong twice over: a character's bytes may be spread over tokens, and some decoders treat
the first token of a text differently. So a window of tokens is decoded that begins with ones already shown, and
whatever could still change stays inside.
"""

from collections.abc import Sequence

from headmix_server.text.tokenizer import Tokenizer

_REPLACEMENT = "\ufffd"
_LONGEST_WINDOW = 32  # tokens; reached only where no token ends a character


class Detokenizer:
    """The text of one growing completion. Everything `push` and `flush` returned, joined, is the full decode.

    One exception: decoders with byte fallback rewrite a whole run of byte tokens once any of it is invalid, and what
    was already shown of such a run stays as it was shown.
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special_tokens: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip = skip_special_tokens
        self._window: list[int] = []
        self._context = 0  # how many leading tokens of the window are fully shown and kept only as context
        self._shown = ""  # the part of the window's text that was returned

    def push(self, tokens: Sequence[int]) -> str:
        """Take new tokens; return the text that is now certain, possibly none."""
        return "".join(self._push_one(token) for token in tokens)

    def flush(self) -> str:
        """Return what was held back: at the end an incomplete character is U+FFFD, as in a full decode."""
        text = self._decode(self._window)
        rest = text[len(self._shown) :]
        self._shown = text
        return rest

    def _push_one(self, token: int) -> str:
        self._window.append(token)
        text = self._decode(self._window)
        certain = _without_incomplete_end(text)
        if not certain.startswith(self._shown) and certain != text:
            return ""
        fresh = certain[len(self._shown) :]
        self._shown = certain
        if fresh and certain == text:
            self._slide()
        elif len(self._window) > _LONGEST_WINDOW:
            self._split(text)
        return fresh

    def _slide(self) -> None:
        """Forget the old context; the tokens just shown become the next one's."""
        self._window = self._window[self._context :]
        self._context = len(self._window)
        self._shown = self._decode(self._window)

    def _split(self, text: str) -> None:
        """Drop the beginning of a window that no character ends, so that garbage costs no more than text."""
        for start in range(len(self._window) - 8, len(self._window) - 4):
            tail = self._decode(self._window[start:])
            if self._decode(self._window[:start]) + tail == text:
                self._window, self._context = self._window[start:], 0
                self._shown = _without_incomplete_end(tail)
                return

    def _decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=self._skip)


def _without_incomplete_end(text: str) -> str:
    """Cut what may be the first bytes of a character: up to three replacement characters, one a byte."""
    for _ in range(3):
        text = text.removesuffix(_REPLACEMENT)
    return text
