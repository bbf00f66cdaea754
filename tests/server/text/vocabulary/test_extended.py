from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from harness.bases.base_folder import IM_END, write_base_folder, write_byte_fallback_folder
from harness.bases.tokenizer_kinds import write_tokenizer
from headmix_adapters.artifact.faults import MAX_FAULTS
from headmix_adapters.text.tokenizer import literal_tokens
from headmix_server.text.detokenize import Detokenizer
from headmix_server.text.tokenizer import Tokenizer, load_tokenizer
from headmix_server.text.vocabulary.extended import AddedTokensError, ExtendedTokenizer

WORDS = ("<subject>", "naïve", "New York", "<subject>s")
GAP = 12
"""Embedding rows the base has beyond its tokenizer's tokens."""
PIECES = st.lists(st.sampled_from([*WORDS, "The ", " river", "é", "<sub", "日", "<subject", " "]), max_size=12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base_folder(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def base(folder: Path) -> Tokenizer:
    return load_tokenizer(folder)


@pytest.fixture(scope="module", params=[0, GAP], ids=["as many rows as tokens", "more rows than tokens"])
def first(base: Tokenizer, request: pytest.FixtureRequest) -> int:
    return base.vocab_size + int(request.param)


@pytest.fixture(scope="module")
def extended(base: Tokenizer, first: int) -> ExtendedTokenizer:
    return ExtendedTokenizer(base, WORDS, first)


def test_added_words_have_the_ids_after_the_bases_rows_and_everything_else_its_own(
    base: Tokenizer, extended: ExtendedTokenizer, first: int
) -> None:
    parts = ["The ", WORDS[0], "fox", WORDS[3], WORDS[2]]
    expected = [*base.encode("The "), first, *base.encode("fox"), first + 3, first + 2]
    assert extended.encode("".join(parts)) == expected
    assert extended.encode("The quick fox") == base.encode("The quick fox")


def test_the_bases_own_tokenizer_never_sees_them(base: Tokenizer, extended: ExtendedTokenizer, first: int) -> None:
    assert extended.encode(WORDS[0]) == [first]
    assert max(base.encode(WORDS[0])) < base.vocab_size
    assert base.token_bytes(first) is None


def test_special_tokens_are_shown_beside_added_words(extended: ExtendedTokenizer, first: int) -> None:
    end = extended.token_id(IM_END) or -1
    shown, ids = extended.showing_special_tokens(), [first, end, *extended.encode(" fox"), end]
    assert shown.decode(ids) == f"<subject>{IM_END} fox{IM_END}"
    assert "".join([Detokenizer(shown).push(ids)]) == shown.decode(ids)
    assert extended.decode(ids) == "<subject> fox"
    assert (shown.token_bytes(end), extended.token_bytes(end)) == (IM_END.encode(), None)
    names = [extended.name(token) for token in range(first + len(WORDS))]
    assert [shown.name(token) for token in range(first + len(WORDS))] == names


@given(pieces=PIECES)
def test_text_comes_back_from_its_ids(extended: ExtendedTokenizer, pieces: list[str]) -> None:
    ids = extended.encode("".join(pieces))
    assert extended.decode(ids) == "".join(pieces)
    assert b"".join(extended.token_bytes(token) or b"" for token in ids).decode() == "".join(pieces)


@given(pieces=PIECES)
def test_ids_are_those_of_transformers_with_the_same_words(folder: Path, base: Tokenizer, pieces: list[str]) -> None:
    oracle = PreTrainedTokenizerFast.from_pretrained(folder)
    oracle.add_tokens(literal_tokens(WORDS))
    extended = ExtendedTokenizer(base, WORDS, base.vocab_size)
    assert extended.encode("".join(pieces)) == oracle.encode("".join(pieces))


@given(data=st.data())
def test_any_tokens_pushed_one_by_one_are_the_full_decode(
    extended: ExtendedTokenizer, first: int, data: st.DataObject
) -> None:
    ids = data.draw(st.lists(st.integers(0, first + len(WORDS) - 1), max_size=40))
    detokenizer = Detokenizer(extended)
    shown = "".join([*(detokenizer.push([token]) for token in ids), detokenizer.flush()])
    assert shown == extended.decode(ids)


def test_rows_without_a_token_stand_for_nothing(base: Tokenizer) -> None:
    extended = ExtendedTokenizer(base, WORDS, base.vocab_size + GAP)
    unused = range(base.vocab_size, base.vocab_size + GAP)
    assert extended.decode([*unused, base.vocab_size + GAP]) == WORDS[0]
    nothing = [*unused, base.vocab_size + GAP + len(WORDS)]
    assert [extended.token_bytes(token) for token in nothing] == [None] * len(nothing)
    assert [extended.name(token) for token in nothing] == [f"token_id:{token}" for token in nothing]


def test_a_base_of_another_kind_finds_and_shows_them_too(tmp_path: Path) -> None:
    base = load_tokenizer(write_byte_fallback_folder(tmp_path))
    extended = ExtendedTokenizer(base, WORDS, base.vocab_size + GAP)
    ids = extended.encode(f"ab {WORDS[0]}")
    assert ids == [*base.encode("ab "), base.vocab_size + GAP]
    assert extended.decode(ids) == f"ab {WORDS[0]}"


@pytest.mark.parametrize(("kind", "word"), [("llama2", " the"), ("byte-level", " the"), ("llama2", "\n")])
def test_a_word_keeps_its_name_where_the_base_has_a_token_of_the_same_text(
    tmp_path: Path, kind: str, word: str
) -> None:
    base = load_tokenizer(write_tokenizer(tmp_path, kind))
    first = base.vocab_size + GAP
    extended = ExtendedTokenizer(base, (word, "<subject>"), first)
    (twin,) = [token for token in range(base.vocab_size) if base.name(token) == word]
    assert [extended.name(first), extended.name(first + 1)] == [word, "<subject>"]
    assert extended.name(twin) == "bytes:" + "".join(f"\\x{byte:02x}" for byte in word.encode())
    assert len({extended.name(token) for token in range(first + 2)}) == first + 2
    assert extended.token_bytes(first) == word.encode()


def test_words_the_base_has_and_too_few_rows_are_refused(base: Tokenizer) -> None:
    with pytest.raises(AddedTokensError) as known:
        ExtendedTokenizer(base, ("<new>", IM_END, "a"), base.vocab_size)
    assert [fault.partition(":")[0] for fault in known.value.faults] == ["added_tokens[1]", "added_tokens[2]"]
    with pytest.raises(AddedTokensError, match="more tokens than the base"):
        ExtendedTokenizer(base, ("<new>",), base.vocab_size - 1)


def test_of_many_refused_words_the_first_hundred_are_named(base: Tokenizer) -> None:
    with pytest.raises(AddedTokensError) as known:
        ExtendedTokenizer(base, ("a",) * 1000, base.vocab_size)
    assert len(known.value.faults) == MAX_FAULTS + 1
    assert known.value.faults[-1] == f"and {1000 - MAX_FAULTS} more faults"
