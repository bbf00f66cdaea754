import pytest
from hypothesis import given
from hypothesis import strategies as st

from headmix_server.text.stop import StopMatcher

STOPS = st.lists(st.text(alphabet="ab", min_size=1, max_size=4), max_size=4)


def cut_whole(text: str, stops: list[str]) -> tuple[str, str | None]:
    """The slow reference: grow the text letter by letter and cut at the longest stop that ends there."""
    for end in range(len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            longest = max(ending, key=len)
            return text[: end - len(longest)], longest
    return text, None


@given(pieces=st.lists(st.text(alphabet="abc", max_size=5), max_size=12), stops=STOPS)
def test_pieces_are_cut_as_the_whole_text_would_be(pieces: list[str], stops: list[str]) -> None:
    matcher = StopMatcher(stops)
    shown = "".join(matcher.push(piece) for piece in pieces) + matcher.flush()
    assert (shown, matcher.matched) == cut_whole("".join(pieces), stops)


@given(pieces=st.lists(st.text(alphabet="abc", max_size=5), max_size=12), stops=STOPS)
def test_no_more_is_held_back_than_a_stop_string_could_need(pieces: list[str], stops: list[str]) -> None:
    matcher, taken, shown = StopMatcher(stops), "", ""
    for piece in pieces:
        taken += piece
        shown += matcher.push(piece)
        if matcher.matched is None:
            held = taken[len(shown) :]
            assert not held or any(stop.startswith(held) and stop != held for stop in stops)


def test_what_looked_like_a_stop_string_is_shown_once_it_is_not() -> None:
    matcher = StopMatcher(["\n\nQ:"])
    assert [matcher.push(piece) for piece in ["a\n", "\n", "Q", "b"]] == ["a", "", "", "\n\nQb"]


@pytest.mark.parametrize("stops", [[], [""]])
def test_without_stop_strings_nothing_is_held_back(stops: list[str]) -> None:
    assert StopMatcher(stops).push("text") == "text"
