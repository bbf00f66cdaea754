"""The encoder with an adapter's words, and its replacement where no copy may be made, agree on all texts."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.bases.encoder_folder import write_wordpiece_folder
from harness.bases.tokenizer_kinds import KINDS, write_tokenizer
from headmix_server.text.plain_text import UncuttableTokenError
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


@given(first=TEXTS, second=TEXTS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_pair_without_the_words_is_the_same_without_a_copy_split_or_not(
    extended: ExtendedTokenizer, slow: Encoder, first: list[str], second: list[str]
) -> None:
    texts = "".join(first), "".join(second)
    pair = slow.encode_pair(*texts, split=False)
    assert extended.encode_pair(*texts) == pair
    if not any(map(extended.may_hold_special, texts)):
        assert slow.encode_pair(*texts, split=True) == pair


def test_special_tokens_of_a_pair_are_the_bases_and_not_the_clients_when_split(base: Tokenizer) -> None:
    encoder, roles = Encoder(base.reader), base.special_tokens
    plain = encoder.encode_pair("a", "b", split=True).ids
    for special in {text for role, text in roles.items() if role != "unk_token"}:
        token = base.token_id(special)
        try:
            forged = encoder.encode_pair(special, special, split=True).ids
        except UncuttableTokenError:
            with pytest.raises(UncuttableTokenError):
                encoder.encode_prompt(special, split=True)
        else:
            assert forged.count(token or -1) == plain.count(token or -1)


def test_a_base_whose_model_takes_no_token_types_has_no_second_text(tmp_path: Path) -> None:
    write_wordpiece_folder(tmp_path)
    assert load_tokenizer(tmp_path).encode_pair("a fox", "a dog").second > 0
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config["model_input_names"] = ["input_ids", "attention_mask"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert load_tokenizer(tmp_path).encode_pair("a fox", "a dog").second == 0
