"""The encoder with an adapter's words, and its replacement where no copy may be made, agree on all texts."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.bases.tokenizer_kinds import KINDS, write_tokenizer
from headmix_server.text.tokenizer import Tokenizer, load_tokenizer
from headmix_server.text.vocabulary.extended import ExtendedTokenizer
from headmix_server.text.workers.encoder import Encoder, Words

WORDS = ("<subject>", "naïve", "New York", "<subject>s", " the")
GAP = 12
"""Embedding rows the base has beyond its tokenizer's tokens."""
TEXTS = st.lists(st.sampled_from(["The ", " fox", "é", "<sub", "ject", "日", " ", "\n", "New ", "a b"]), max_size=8)


@pytest.fixture(scope="module", params=KINDS)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load_tokenizer(write_tokenizer(tmp_path_factory.mktemp(request.param), request.param))


@pytest.fixture(scope="module")
def extended(base: Tokenizer) -> ExtendedTokenizer:
    words = [word for word in WORDS if base.token_id(word) is None]
    return ExtendedTokenizer(base, words, base.vocab_size + GAP)


@pytest.fixture(scope="module")
def slow(extended: ExtendedTokenizer) -> Encoder:
    """The reference: a copy of the base's tokenizer."""
    assert extended.words is not None
    return Encoder(extended.reader, extended.words)


@given(pieces=TEXTS, around=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_text_without_the_words_has_the_same_ids_without_a_copy(
    extended: ExtendedTokenizer, slow: Encoder, pieces: list[str], around: bool
) -> None:
    text = "".join(pieces)
    if extended.needs_copy(text):
        assert any(word in text for word in WORDS)
    else:
        ids = extended.encode(text, add_special_tokens=around)
        assert "_encoder" not in vars(extended)
        assert ids == slow.encode(text, add_special_tokens=around)


def test_a_text_with_a_word_needs_the_copy_and_has_its_id(extended: ExtendedTokenizer, slow: Encoder) -> None:
    assert extended.needs_copy("a <subject>")
    assert extended.token_id("<subject>") in slow.encode("a <subject>")


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_ids_are_shown_as_the_copy_shows_them(
    base: Tokenizer, extended: ExtendedTokenizer, data: st.DataObject
) -> None:
    words = extended.words
    assert words is not None
    copy = base.reader.with_words(words.words)
    own = st.integers(0, base.next_id - 1)
    added = st.integers(words.first, words.first + len(words.words) - 1)
    ids, skip = data.draw(st.lists(own | added, max_size=12)), data.draw(st.booleans())
    shift = words.first - base.next_id
    inner = [token - shift if token >= words.first else token for token in ids]
    if not base.byte_level:  # whose decoder mistakes the words for letters of its alphabet: see `ExtendedTokenizer`
        assert extended.decode(ids, skip_special_tokens=skip) == copy.decode(inner, skip_special_tokens=skip)
    without = [token for token in ids if token < words.first]
    assert extended.decode(without, skip_special_tokens=skip) == copy.decode(without, skip_special_tokens=skip)


def test_the_librarys_number_of_the_first_word_is_known_without_adding_it(base: Tokenizer) -> None:
    copy = base.reader.with_words(("<new>", "<newer>"))
    assert (copy.token_id("<new>"), copy.token_id("<newer>")) == (base.next_id, base.next_id + 1)


def test_making_the_tokenizer_of_an_adapter_copies_nothing(base: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a copy was made")

    monkeypatch.setattr(type(base.reader), "with_words", refuse)
    made = ExtendedTokenizer(base, ("<new>",), base.vocab_size)
    assert made.name(base.vocab_size) == "<new>"
    assert made.encode("a b") == base.encode("a b")


def test_the_words_ids_begin_where_the_vocabulary_has_them_not_where_the_library_does(tmp_path: Path) -> None:
    base = load_tokenizer(write_tokenizer(tmp_path, "byte-level"))
    first = base.vocab_size + GAP
    encoder = Encoder(base.reader, Words("digest", ("<new>", "<newer>"), first))
    assert encoder.encode("<newer><new>") == [first + 1, first]
