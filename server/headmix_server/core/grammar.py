"""The boundary between generations and their grammars: which tokens may come next, as the text so far allows.

A grammar is a text in llguidance's form (JSON, a regular expression or Lark, see `text.grammars`). Who compiles it
knows the vocabulary; the engine keeps one matcher for each generation, and a runner asks it for a mask.
"""

from collections.abc import Sequence as Seq
from typing import Protocol

from headmix_server.core.types import AdapterRef


class GrammarError(Exception):
    """A grammar that cannot be enforced, or no longer; the message is for the client."""


class Matcher(Protocol):
    """How far one generation has come in its grammar."""

    def allowed(self) -> bytes:
        """Return a bit for each token, set if it may come next; the lowest bit of the first byte is token 0's.

        Ids beyond the end may not come next. It may be called from the runner's thread while nothing else uses it.

        Raises:
            GrammarError: finding out takes more than one request may.
        """
        ...

    def allowed_after(self, tokens: Seq[int]) -> list[bytes]:
        """Return `allowed` for now and after each of these tokens, up to one that is not allowed or completes the text.

        The state is the same afterwards.

        Raises:
            GrammarError: as `allowed`.
        """
        ...

    def forced(self) -> Seq[int]:
        """Return tokens of the text that must follow now, whatever is chosen; empty if more than one text may follow.

        The text may also be made of other tokens. The tokens do not complete it.

        Raises:
            GrammarError: as `allowed`.
        """
        ...

    def advance(self, token: int) -> bool:
        """Take in the token that was chosen; return whether the text is complete and nothing may follow.

        Raises:
            GrammarError: the token was not allowed.
        """
        ...

    def copy(self) -> "Matcher":
        """Return a matcher of its own in the same state."""
        ...


class GrammarCompiler(Protocol):
    """Compiles grammars for a base and its adapters; called from several threads."""

    def compile(self, grammar: str, adapter: AdapterRef | None) -> Matcher:
        """Return a matcher at its beginning, for the vocabulary of the base and what the adapter adds to it.

        Raises:
            GrammarError: the grammar is faulty or too large.
        """
        ...
