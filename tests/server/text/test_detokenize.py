import pytest
from hypothesis import given
from hypothesis import strategies as st

from headmix_server.text.detokenize import Detokenizer
from headmix_server.text.tokenizer import Tokenizer, load_tokenizer
from tests.support.base_folder import write_base_folder, write_byte_fallback_folder

TOKENS = st.lists(st.integers(0, 399), max_size=80)
VALID_TEXT = st.text(alphabet=st.sampled_from("abc é€你🙂 \n"), max_size=40)


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load_tokenizer(write_base_folder(tmp_path_factory.mktemp("bytes")))


@pytest.fixture(scope="module")
def byte_fallback(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load_tokenizer(write_byte_fallback_folder(tmp_path_factory.mktemp("fallback")))


def stream(tokenizer: Tokenizer, tokens: list[int], sizes: list[int]) -> list[str]:
    """Push the tokens in pieces of the given sizes, then flush."""
    detokenizer, shown, rest = Detokenizer(tokenizer), [], tokens
    for size in [*sizes, len(tokens)]:
        shown.append(detokenizer.push(rest[:size]))
        rest = rest[size:]
    return [*shown, detokenizer.flush()]


@given(tokens=TOKENS, sizes=st.lists(st.integers(1, 4), max_size=80))
def test_any_tokens_joined_are_the_full_decode(byte_level: Tokenizer, tokens: list[int], sizes: list[int]) -> None:
    assert "".join(stream(byte_level, tokens, sizes)) == byte_level.decode(tokens)


@given(text=VALID_TEXT)
def test_valid_text_is_never_shown_with_half_a_character(byte_level: Tokenizer, text: str) -> None:
    pieces = stream(byte_level, byte_level.encode(text), [1] * 200)
    assert "".join(pieces) == text
    assert "\ufffd" not in "".join(pieces)


@given(text=VALID_TEXT)
def test_byte_fallback_text_is_the_full_decode(byte_fallback: Tokenizer, text: str) -> None:
    tokens = byte_fallback.encode(text)
    pieces = stream(byte_fallback, tokens, [1] * 200)
    assert "".join(pieces) == byte_fallback.decode(tokens)
    assert all("\ufffd" not in piece for piece in pieces)


def test_a_character_over_several_tokens_waits_for_its_last_byte(byte_fallback: Tokenizer) -> None:
    detokenizer = Detokenizer(byte_fallback)
    assert [detokenizer.push([3 + byte]) for byte in "€".encode()] == ["", "", "€"]


def test_endless_invalid_bytes_are_decoded_in_a_bounded_window(byte_level: Tokenizer) -> None:
    invalid = next(token for token in range(400) if byte_level.token_bytes(token) == b"\xff")
    detokenizer = Detokenizer(byte_level)
    text = detokenizer.push([invalid] * 2000)
    assert len(detokenizer._window) <= 40
    assert text + detokenizer.flush() == "\ufffd" * 2000
