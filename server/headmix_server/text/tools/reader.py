"""Separates what a model writes in one of the known formats, as it arrives: text, reasoning, and calls of tools.

Nothing depends on how the text was cut into pieces. It knows no shapes of responses.
"""

import re

from headmix_server.text.stop import overlap
from headmix_server.text.tools.call import Call, NotACallError
from headmix_server.text.tools.formats import THOUGHTS, ToolFormat
from headmix_server.text.tools.parts import Part, PartList

_THOUGHT_ENDS = dict(THOUGHTS)
_SPACE, _SEMICOLON = re.compile(r"\s*"), re.compile(r"[\s;]*")
_LIST_START, _LIST_NEXT, _LIST_END = re.compile(r"\s*\[?\s*"), re.compile(r"\s*,?\s*"), re.compile(r"\s*\]")


class ToolReader:
    """See `AnswerReader`.

    With `eager`, a call is reported while it is written, since a grammar vouches for it; otherwise once it is complete
    and its arguments are an object. `known` are the names of tools: JSON that no marker announces is a call only if it
    names one. `thought_end` is what ends the reasoning within which the prompt ended, if it did.
    """

    def __init__(
        self, format_: ToolFormat, known: frozenset[str], *, eager: bool = False, thought_end: str | None = None
    ) -> None:
        self._format = format_
        self._known = known
        self._eager = eager
        self._text = ""
        self._found = PartList(trims=thought_end is not None)
        self._thought_end = thought_end
        self._may_be_bare = format_.trigger is None
        self._call: Call | None = None
        self._is_reported = False  # the call
        self._is_marked = False  # a marker announced it
        self._is_listed = False  # it is an entry of a list
        self.cut = False

    def push(self, text: str) -> list[Part]:
        """See `AnswerReader`."""
        self._text += text
        while self._step(final=False):
            pass
        return self._found.take()

    def end(self) -> list[Part]:
        """See `AnswerReader`."""
        while self._step(final=True):
            pass
        if self._call is not None and self._is_reported:
            self.cut = True
        elif self._call is not None and not self._found.num_calls:
            self._found.say(self._without_markers(self._text))
        return self._found.end()

    def _step(self, *, final: bool) -> bool:
        """Read on; return whether there may be more to read."""
        if self._thought_end is not None:
            return self._read_thought(self._thought_end, final=final)
        if self._call is not None:
            return self._read_call(self._call)
        return self._begin_bare(final=final) if self._may_be_bare else self._read_text(final=final)

    def _read_thought(self, ending: str, *, final: bool) -> bool:
        place = self._text.find(ending)
        known = place if place >= 0 else len(self._text) - (0 if final else overlap(self._text, ending))
        self._found.think(self._text[:known])
        self._text = self._text[known:]
        if place < 0:
            return False
        self._text = self._text[len(ending) :]
        self._thought_end = None
        self._may_be_bare = self._format.trigger is None
        self._found.trim()
        return True

    def _begin_bare(self, *, final: bool) -> bool:
        """Begin a call that no marker announces, if the text begins with an object."""
        found = (_SEMICOLON if self._found.num_calls else _SPACE).match(self._text)
        place = 0 if found is None else found.end()
        if place == len(self._text) and not final:
            return False
        self._may_be_bare = False
        if self._text[place : place + 1] == "{":
            if not self._found.num_calls:
                self._found.say(self._text[:place])
            self._text = self._text[place:]
            self._begin_call(marked=False)
        return True

    def _read_text(self, *, final: bool) -> bool:
        openers = self._openers()
        found = [(place, -len(opener), opener) for opener in openers if (place := self._find(opener)) >= 0]
        if not found:
            held = 0 if final else max(overlap(self._text, opener) for opener in openers)
            known = len(self._text) - held
            said, self._text = self._text[:known], self._text[known:]
            self._found.say(said)
            return False
        place, _, opener = min(found)
        self._found.say(self._text[:place])
        self._text = self._text[place + len(opener) :]
        self._open(opener)
        return True

    def _find(self, opener: str) -> int:
        """Return where a marker stands, or -1; reasoning begins only where nothing stands before it."""
        place = self._text.find(opener)
        return -1 if opener in _THOUGHT_ENDS and self._text[:place].strip() else place

    def _openers(self) -> tuple[str, ...]:
        thoughts = () if self._found.has_said or self._found.num_calls else tuple(_THOUGHT_ENDS)
        return (*self._format.markers, *thoughts)

    def _open(self, opener: str) -> None:
        """Take in a marker: it begins the reasoning or a call, or ends a call and is dropped."""
        ending = _THOUGHT_ENDS.get(opener)
        if ending is not None:
            self._thought_end = ending
            self._found.trim()
        elif opener == self._format.markers[0]:
            self._begin_call(marked=True)

    def _begin_call(self, *, marked: bool) -> None:
        self._is_listed = marked and self._format.opening.endswith("[")
        self._is_marked, self._is_reported = marked, False
        self._call = Call(self._format.shape, _LIST_START if self._is_listed else _SPACE)

    def _read_call(self, call: Call) -> bool:
        if self._is_listed and self._found.num_calls and (ended := _LIST_END.match(self._text)) is not None:
            self._text, self._call = self._text[ended.end() :], None
            return True
        try:
            end = call.end(self._text)
        except NotACallError:
            if self._eager and call.name is not None and self._is_call(call):  # as if it had arrived in pieces
                self._report(call, call.name)
            return self._give_up()
        is_call = self._is_call(call)
        if end is not None and not (is_call or self._is_reported):
            return self._give_up()
        if call.name is not None and is_call and (end is not None or self._eager):
            self._report(call, call.name)
        if end is None:
            return False
        self._text = self._text[end:]
        self._call = Call(self._format.shape, _LIST_NEXT) if self._is_listed else None
        self._is_reported = False
        self._may_be_bare = self._format.trigger is None
        return True

    def _is_call(self, call: Call) -> bool:
        return call.name is not None and (self._is_marked or call.name in self._known)

    def _report(self, call: Call, name: str) -> None:
        if not self._is_reported:
            self._is_reported = True
            self._found.call(name)
        self._found.argue(call.more_arguments(self._text) if self._eager else call.arguments or "")

    def _give_up(self) -> bool:
        """Go on as text: what began like a call is none, and only its marker is lost."""
        self.cut = self.cut or self._is_reported
        self._call, self._is_listed = None, False
        return bool(self._text)

    def _without_markers(self, text: str) -> str:
        for marker in self._format.markers:
            text = text.replace(marker, "")
        return text
