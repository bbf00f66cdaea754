"""A completion's text is the decoded prompt and completion minus the decoded prompt, however it is split up."""

import codecs
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from harness.bases.base_folder import CORPUS
from harness.bases.tokenizer_kinds import KINDS, write_tokenizer
from headmix_server.text.detokenize import Detokenizer, prompt_text
from headmix_server.text.tokenizer import Tokenizer, load_tokenizer
from headmix_server.text.vocabulary.byte_run import LONGEST

VALID_TEXT = st.text(alphabet=st.sampled_from("abc é€你🙂 \n"), max_size=40)
WORDS = st.lists(st.sampled_from([*CORPUS[0].split(), " ", "é", "🙂", "日本", "\n", "  "]), max_size=8).map(" ".join)
SIZES = st.lists(st.integers(1, 4), max_size=40)
SENTENCEPIECE = ("llama2", "gemma")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: write_tokenizer(tmp_path_factory.mktemp(kind), kind) for kind in KINDS}


@pytest.fixture(scope="module")
def tokenizers(folders: dict[str, Path]) -> dict[str, Tokenizer]:
    return {kind: load_tokenizer(folder) for kind, folder in folders.items()}


@pytest.fixture(scope="module")
def oracles(folders: dict[str, Path]) -> dict[str, PreTrainedTokenizerFast]:
    return {kind: PreTrainedTokenizerFast.from_pretrained(folder) for kind, folder in folders.items()}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def stream(tokenizer: Tokenizer, prompt: Sequence[int], tokens: Sequence[int], sizes: Sequence[int] = ()) -> list[str]:
    """Push the tokens in pieces of the given sizes, the rest at once, then flush."""
    detokenizer, shown, rest = Detokenizer(tokenizer, prompt), [], tokens
    for size in [*sizes, len(tokens)]:
        shown.append(detokenizer.push(rest[:size]))
        rest = rest[size:]
    return [*shown, detokenizer.flush()]


def one_by_one(tokenizer: Tokenizer, prompt: Sequence[int], tokens: Sequence[int]) -> list[str]:
    return stream(tokenizer, prompt, tokens, [1] * len(tokens))


@given(data=st.data(), sizes=SIZES)
def test_any_tokens_add_what_transformers_decodes_beyond_the_prompt(
    tokenizers: dict[str, Tokenizer], oracles: dict[str, PreTrainedTokenizerFast], data: st.DataObject, sizes: list[int]
) -> None:
    """Including special tokens, shown or not, ids without a token, partial characters and invalid bytes."""
    kind, skip = data.draw(st.sampled_from(list(KINDS))), data.draw(st.booleans())
    tokenizer, oracle = tokenizers[kind], oracles[kind]
    tokenizer = tokenizer if skip else tokenizer.showing_special_tokens()
    ids = st.lists(st.integers(0, tokenizer.vocab_size + 2), max_size=30)
    prompt, tokens = data.draw(ids), data.draw(ids)
    whole = str(oracle.decode([*prompt, *tokens], skip_special_tokens=skip))
    before = prompt_text(tokenizer, prompt)
    # The one exception: bytes that make a run of byte tokens invalid after its beginning was shown.
    assume(whole.startswith(before) and not _is_invalid_late(tokenizer, prompt, tokens))
    streamed = stream(tokenizer, prompt, tokens, sizes)
    assert "".join(streamed) == whole[len(before) :]
    assert streamed == stream(tokenizer, prompt, tokens, sizes)
    assert "".join(one_by_one(tokenizer, prompt, tokens)) == "".join(streamed)


def _is_invalid_late(tokenizer: Tokenizer, prompt: Sequence[int], tokens: Sequence[int]) -> bool:
    run, shown = b"", 0
    for place, token in enumerate([*prompt, *tokens]):
        byte = tokenizer.fallback_byte(token)
        if byte is not None:
            run += bytes([byte])
        elif not tokenizer.is_hidden(token):
            if shown and _is_invalid(run, final=True):
                return True
            run, shown = b"", 0
        if len(run) >= LONGEST or place + 1 == len(prompt):
            shown = max(shown, len(run.decode(errors="ignore").encode()))
        if shown and _is_invalid(run, final=False):
            return True
    return bool(shown) and _is_invalid(run, final=True)


def _is_invalid(raw: bytes, *, final: bool) -> bool:
    """Return whether the bytes are invalid UTF-8 (if more may follow, whatever follows)."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(raw, final)
    except UnicodeDecodeError:
        return True
    return False


@given(data=st.data(), prompt=WORDS, text=WORDS)
def test_text_streams_without_half_a_character(
    tokenizers: dict[str, Tokenizer], data: st.DataObject, prompt: str, text: str
) -> None:
    kind = data.draw(st.sampled_from(list(KINDS)))
    tokenizer = tokenizers[kind]
    before, tokens = tokenizer.encode(prompt), tokenizer.encode(text, add_special_tokens=False)
    pieces = one_by_one(tokenizer, before, tokens)
    assert "".join(pieces) == tokenizer.decode([*before, *tokens])[len(tokenizer.decode(before)) :]
    assert "\ufffd" not in "".join(pieces)


@pytest.mark.parametrize("kind", ["llama2", "metaspace", "unigram", "wordpiece"])
def test_a_completion_keeps_the_space_that_it_begins_with(tokenizers: dict[str, Tokenizer], kind: str) -> None:
    """These decoders drop the space before a text's first word; a completion's first word is not the text's."""
    tokenizer = tokenizers[kind]
    first, *rest = [token for token in tokenizer.encode("fox") if not tokenizer.is_hidden(token)]
    assert "".join(one_by_one(tokenizer, tokenizer.encode("the"), [first, *rest])) == " fox"
    assert "".join(one_by_one(tokenizer, [], [first, *rest])) == "fox"


def test_a_prompt_of_special_tokens_alone_is_no_text_before_the_first(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers["llama2"]
    tokens = tokenizer.encode("fox", add_special_tokens=False)
    assert "".join(one_by_one(tokenizer, [1, 1], tokens)) == "fox"
    assert "".join(one_by_one(tokenizer, [*tokenizer.encode("a"), 1, 2], tokens)) == " fox"


@pytest.mark.parametrize("kind", ["byte-level", *SENTENCEPIECE])
@given(data=st.data())
def test_a_character_that_the_prompt_begins_is_the_completions(
    tokenizers: dict[str, Tokenizer], kind: str, data: st.DataObject
) -> None:
    tokenizer = tokenizers[kind]
    of_byte = {tokenizer.token_bytes(token): token for token in range(tokenizer.vocab_size)}
    raw = data.draw(st.text(alphabet="€ß🙀ж", min_size=1, max_size=LONGEST // 4)).encode()
    cut = data.draw(st.integers(0, len(raw)))
    byte_tokens = [_byte_token(tokenizer, of_byte, byte) for byte in raw]
    prompt, tokens = [*tokenizer.encode("the"), *byte_tokens[:cut]], byte_tokens[cut:]
    before = prompt_text(tokenizer, prompt)
    assert "\ufffd" not in before
    assert before + "".join(one_by_one(tokenizer, prompt, tokens)) == "the" + raw.decode()


def _byte_token(tokenizer: Tokenizer, of_byte: dict[bytes | None, int], byte: int) -> int:
    token = tokenizer.token_id(f"<0x{byte:02X}>")
    return of_byte[bytes([byte])] if token is None else token


@pytest.mark.parametrize("kind", ["byte-level", *SENTENCEPIECE])
def test_what_a_prompt_leaves_incomplete_and_nothing_completes_is_shown_as_such(
    tokenizers: dict[str, Tokenizer], kind: str
) -> None:
    tokenizer = tokenizers[kind]
    of_byte = {tokenizer.token_bytes(token): token for token in range(tokenizer.vocab_size)}
    prompt = [*tokenizer.encode("the"), _byte_token(tokenizer, of_byte, 0xE2)]
    assert prompt_text(tokenizer, prompt) == "the"
    assert one_by_one(tokenizer, prompt, []) == ["", "\ufffd"]


def test_a_character_over_several_tokens_waits_for_its_last_byte(tokenizers: dict[str, Tokenizer]) -> None:
    for kind in SENTENCEPIECE:
        detokenizer = Detokenizer(tokenizers[kind])
        text = [detokenizer.push([_byte_token(tokenizers[kind], {}, byte)]) for byte in "€".encode()]
        assert "".join([*text, detokenizer.flush()]) == "€"
        assert text[:2] == ["", ""]


def test_a_script_without_tokens_streams_though_its_bytes_are_held_back(tokenizers: dict[str, Tokenizer]) -> None:
    """Held back until the run ends or is `LONGEST` bytes long; a later invalid byte changes nothing already shown."""
    tokenizer, text = tokenizers["gemma"], "ሰላምታ" * 4
    detokenizer = Detokenizer(tokenizer)
    pieces = [detokenizer.push([_byte_token(tokenizer, {}, byte)]) for byte in text.encode()]
    assert sum(map(bool, pieces)) >= len(text.encode()) // LONGEST
    assert text.startswith("".join(pieces))
    unshown = text.removeprefix("".join(pieces)).encode()
    invalid = detokenizer.push([_byte_token(tokenizer, {}, byte) for byte in (0xFF, 0x41)])
    assert invalid == "\ufffd" * (len(unshown) + 2)
    assert detokenizer.push(tokenizer.encode("fox")) == "fox"


@pytest.mark.parametrize("kind", ["byte-level", *SENTENCEPIECE])
def test_endless_invalid_bytes_cost_no_more_than_text(
    tokenizers: dict[str, Tokenizer], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tokenizers[kind]
    token = _byte_token(tokenizer, {tokenizer.token_bytes(t): t for t in range(tokenizer.vocab_size)}, 0xFF)
    decoded, decode = list[int](), Tokenizer.decode

    def counted(self: Tokenizer, ids: Sequence[int], *, skip_special_tokens: bool | None = None) -> str:
        decoded.append(len(ids))
        return decode(self, ids, skip_special_tokens=skip_special_tokens)

    monkeypatch.setattr(Tokenizer, "decode", counted)
    assert "".join(one_by_one(tokenizer, tokenizer.encode("a"), [token] * 2000)) == "\ufffd" * 2000
    assert max(decoded, default=0) <= 40
    assert len(decoded) <= 4000


@given(data=st.data())
def test_the_bytes_of_the_tokens_join_to_the_text(tokenizers: dict[str, Tokenizer], data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(list(KINDS)))
    tokenizer = tokenizers[kind]
    prompt = [*tokenizer.encode("the"), *tokenizer.encode(data.draw(WORDS), add_special_tokens=False)]
    tokens = tokenizer.encode(data.draw(WORDS), add_special_tokens=False)
    joined = b"".join(tokenizer.token_bytes(token) or b"" for token in tokens)
    assert joined.decode() == "".join(one_by_one(tokenizer, prompt, tokens))


def test_no_two_tokens_have_the_same_name(tokenizers: dict[str, Tokenizer], kind: str) -> None:
    tokenizer = tokenizers[kind]
    names = [tokenizer.name(token) for token in range(tokenizer.vocab_size + 5)]
    assert len(set(names)) == len(names)
    assert "token_id:" + str(tokenizer.vocab_size + 1) in names


def test_a_token_is_named_by_the_text_it_adds(tokenizers: dict[str, Tokenizer]) -> None:
    llama, bert = tokenizers["llama2"], tokenizers["wordpiece"]
    assert [llama.name(token) for token in llama.encode("the fox")] == ["<s>", " the", " fox"]
    newline, letter, half = (llama.token_id(piece) or 0 for piece in ("<0x0A>", "<0x61>", "<0xE2>"))
    assert [llama.name(token) for token in (newline, letter, half)] == ["\n", r"bytes:\x61", r"bytes:\xe2"]
    assert llama.name(llama.token_id("a") or 0) == "a"
    assert [bert.name(bert.token_id(piece) or 0) for piece in ("[CLS]", "the", "##s")] == ["[CLS]", " the", "s"]
    assert (llama.token_bytes(1), llama.token_bytes(10**6)) == (None, None)


@pytest.mark.parametrize("kind", KINDS)
def test_markers_are_shown_where_they_stand_and_other_special_tokens_are_not(
    tokenizers: dict[str, Tokenizer], kind: str
) -> None:
    tokenizer = tokenizers[kind]
    hidden = [token for token in range(tokenizer.vocab_size) if tokenizer.is_hidden(token) and tokenizer.piece(token)]
    words = tokenizer.encode("abc", add_special_tokens=False)
    shown, others = hidden[0], hidden[1:]
    detokenizer = Detokenizer(tokenizer, (), {shown: "<MARK>"})
    text = "".join(detokenizer.push([token]) for token in [*words, shown, *others, shown, *words]) + detokenizer.flush()
    assert text.replace(" ", "") == f"{tokenizer.decode(words)}<MARK><MARK>{tokenizer.decode(words)}".replace(" ", "")
