"""The repository is in plain English: no page, docstring, comment, message or test name has a listed phrase."""

import pytest

from tests.prose.phrases import PHRASES, Phrase
from tests.prose.pieces import all_pieces

pytestmark = pytest.mark.drift


def test_english_is_found_in_pages_docstrings_comments_and_messages() -> None:
    kinds = {piece.path.suffix for piece in all_pieces()}
    assert {".md", ".py", ".cpp", ""} <= kinds
    assert len(all_pieces()) > 10_000


@pytest.mark.parametrize("phrase", PHRASES, ids=lambda phrase: phrase.pattern)
def test_a_phrase_does_not_come_back(phrase: Phrase) -> None:
    pattern = phrase.compiled()
    places = [place for piece in all_pieces() for place in piece.matches(pattern)]
    assert not places, f"write {phrase.instead} instead:\n" + "\n".join(places)


@pytest.mark.parametrize("phrase", PHRASES, ids=lambda phrase: phrase.pattern)
def test_the_replacement_is_not_the_phrase_itself(phrase: Phrase) -> None:
    assert not phrase.compiled().search(phrase.instead)
