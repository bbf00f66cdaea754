"""The bound on a text's tokens holds for every text, or there is no bound."""

import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, models, normalizers, pre_tokenizers

from harness.bases.tokenizer_kinds import BYTE_TOKENS, KINDS, byte_level, write_tokenizer
from headmix_server.text.capacity import capacity_of
from headmix_server.text.tokenizer import Tokenizer, load_tokenizer
from headmix_server.text.vocabulary.byte_alphabet import BYTES

CERTAIN = [kind for kind in KINDS if kind not in ("unigram", "wordpiece")]
LONG = 5_000
SHORTENING = ["e\u0301", "\u03b1\u0313\u0300\u0345", "\u1112\u1161\u11ab", "\u2126", "\u212b", "\u1fef", "\u0130"]


@pytest.fixture(scope="module", params=CERTAIN)
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load_tokenizer(write_tokenizer(tmp_path_factory.mktemp(request.param), request.param))


def _holds(backend: tokenizers.Tokenizer, text: str) -> bool:
    capacity = capacity_of(backend)
    assert capacity is not None
    number = len(backend.encode(text, add_special_tokens=False).ids)
    return not capacity.exceeds(text, number)


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_text_has_fewer_tokens_than_it_must(tokenizer: Tokenizer, data: st.DataObject) -> None:
    backend = tokenizer.reader.backend
    longest = sorted(backend.get_vocab(with_added_tokens=True), key=len)[-40:]
    spelled = ["".join(map(chr, filter(None, map(BYTES.get, piece)))) for piece in longest]
    pieces = st.sampled_from([*longest, *spelled, *SHORTENING, " ", "\n", "日", "\x00"]) | st.text(max_size=3)
    text = "".join(data.draw(st.lists(pieces, max_size=30))) * data.draw(st.integers(1, 5))
    assert _holds(backend, text)


def test_a_text_of_the_longest_token_alone_is_let_through_and_what_is_more_is_not(tokenizer: Tokenizer) -> None:
    capacity = capacity_of(tokenizer.reader.backend)
    assert capacity is not None
    assert not capacity.exceeds("a" * capacity.length * 100, 100)
    assert capacity.exceeds("a" * (capacity.length * 100 + 1), 100)


def test_no_character_is_composed_of_more_than_the_bound_takes_for_granted() -> None:
    decomposed = (len(unicodedata.normalize("NFD", chr(code))) for code in range(sys.maxunicode + 1))
    assert max(decomposed) == 4


@pytest.mark.parametrize(
    ("kind", "text"), [("unigram", "日" * LONG), ("wordpiece", "a" * LONG), ("wordpiece", " " * LONG)]
)
def test_where_any_amount_of_text_can_be_few_tokens_there_is_no_bound(tmp_path: Path, kind: str, text: str) -> None:
    backend = load_tokenizer(write_tokenizer(tmp_path, kind)).reader.backend
    assert len(backend.encode(text, add_special_tokens=False).ids) <= 2
    assert capacity_of(backend) is None


def _plain(**options: object) -> tokenizers.Tokenizer:
    pieces = ["<unk>", "a", "b", "ab"]
    return tokenizers.Tokenizer(models.BPE({piece: n for n, piece in enumerate(pieces)}, [("a", "b")], **options))


def _with(change: Callable[[tokenizers.Tokenizer], object]) -> tokenizers.Tokenizer:
    backend = byte_level()
    change(backend)
    return backend


def _normalizer(made: normalizers.Normalizer) -> tokenizers.Tokenizer:
    def change(backend: tokenizers.Tokenizer) -> None:
        backend.normalizer = made

    return _with(change)


def _pre_tokenizer(*steps: pre_tokenizers.PreTokenizer) -> tokenizers.Tokenizer:
    def change(backend: tokenizers.Tokenizer) -> None:
        backend.pre_tokenizer = pre_tokenizers.Sequence([*steps, backend.pre_tokenizer])

    return _with(change)


UNBOUNDED: dict[str, tuple[tokenizers.Tokenizer, str]] = {
    "drops unknown characters": (_plain(), "日" * LONG),
    "merges unknown characters": (_plain(unk_token="<unk>", fuse_unk=True), "日" * LONG),
    "strips accents": (
        _normalizer(normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])),
        "\u0301" * LONG,
    ),
    "strips white space": (_normalizer(normalizers.Strip()), " " * LONG),
    "replaces a pattern": (_normalizer(normalizers.Replace(tokenizers.Regex(" {2,}"), " ")), " " * LONG),
    "replaces by nothing": (_normalizer(normalizers.Replace("a", "")), "a" * LONG),
    "splits and removes": (_pre_tokenizer(pre_tokenizers.Split(" ", behavior="removed")), " " * LONG),
    "splits at white space": (_pre_tokenizer(pre_tokenizers.WhitespaceSplit()), " " * LONG),
    "a token that swallows spaces before it": (
        _with(lambda backend: backend.add_tokens([AddedToken("<mask>", lstrip=True)])),
        " " * LONG + "<mask>",
    ),
}


@pytest.mark.parametrize("case", UNBOUNDED)
def test_nothing_is_certain_of_what_drops_merges_or_swallows_text(case: str) -> None:
    backend, text = UNBOUNDED[case]
    assert len(backend.encode(text, add_special_tokens=False).ids) <= 2
    assert capacity_of(backend) is None


def _lacking(*bytes_: int) -> tokenizers.Tokenizer:
    pieces = [character for character, byte in BYTES.items() if byte not in bytes_]
    backend = tokenizers.Tokenizer(models.BPE({piece: n for n, piece in enumerate([*pieces, "aa"])}, [("a", "a")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return backend


BOUNDED: dict[str, tuple[tokenizers.Tokenizer, str, str]] = {
    "lacks bytes": (_lacking(4, 0xF1), "\x04a\x04a\U00040000" * 9 + "\x04" * LONG, "aaa"),
    "unknown characters one by one": (_plain(unk_token="<unk>"), "日本ab" * 9, "日" * LONG),
    "replaces by less": (_normalizer(normalizers.Replace("aaaa", "b")), "aaaa" * 9, "b" * LONG),
    "composes": (_normalizer(normalizers.NFC()), "\u03b1\u0313\u0300\u0345" * 9, "b" * LONG),
    "lower case": (_normalizer(normalizers.Lowercase()), "\u212a\u0130K" * 9, "b" * LONG),
    "a long word": (_with(lambda b: b.add_tokens([AddedToken("x" * 60, normalized=True)])), "x" * 600, "b" * LONG),
}


@pytest.mark.parametrize("case", BOUNDED)
def test_what_lacks_replaces_or_composes_characters_has_a_bound_that_holds(case: str) -> None:
    backend, text, long = BOUNDED[case]
    assert _holds(backend, text)
    capacity = capacity_of(backend)
    assert capacity is not None
    assert capacity.exceeds(long, 1)


def test_bytes_of_characters_that_the_vocabulary_lacks_are_counted_where_all_of_them_are_tokens() -> None:
    pieces = ["<unk>", "a", *BYTE_TOKENS]
    options: dict[str, object] = {"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True}
    whole = tokenizers.Tokenizer(models.BPE({piece: n for n, piece in enumerate(pieces)}, [], **options))
    assert _holds(whole, "日" * 50)
    partly = tokenizers.Tokenizer(models.BPE({piece: n for n, piece in enumerate(pieces[:-1])}, [], **options))
    assert capacity_of(partly) is None


def test_an_adapters_words_count_with_their_own_length(tokenizer: Tokenizer) -> None:
    capacity = tokenizer.capacity
    assert capacity is not None
    word = "w" * 10 * capacity.length
    assert capacity.exceeds(word, 1)
    assert not capacity.including([word]).exceeds(word, 1)
