"""A grammar is tried out within a bound that only its own work counts against."""

import signal
from pathlib import Path

import pytest
from llguidance import LLTokenizer

from harness.bases.base_folder import write_base_folder
from headmix_server.text.grammars.compiler import TokenCompiler
from headmix_server.text.grammars.wanted import Choice
from headmix_server.text.tokenizer import Tokenizer
from headmix_server.text.workers.encoders import Encoders
from headmix_server.text.workers.jobs import WriteGrammar


def test_reading_a_large_vocabulary_does_not_count_against_the_first_grammar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounded: list[bool] = []
    build = TokenCompiler._build

    def noted(compiler: TokenCompiler, tokenizer: Tokenizer, size: int) -> LLTokenizer:
        bounded.append(signal.getitimer(signal.ITIMER_PROF)[0] > 0)
        return build(compiler, tokenizer, size)

    monkeypatch.setattr(TokenCompiler, "_build", noted)
    encoders = Encoders(write_base_folder(tmp_path))
    for words in (("yes", "no"), ("red", "blue")):
        assert WriteGrammar(Choice(words)).run(encoders)
    assert bounded == [False]
