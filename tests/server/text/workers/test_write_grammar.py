"""A grammar is tried out within a bound that only its own work counts against, in a process of its own."""

from pathlib import Path

import pytest
from llguidance import LLTokenizer

from harness.bases.base_folder import write_base_folder
from headmix_server.core.grammar import GrammarError
from headmix_server.text.grammars.compiler import TokenCompiler
from headmix_server.text.grammars.wanted import Choice, JsonText
from headmix_server.text.tokenizer import Tokenizer
from headmix_server.text.workers.apart import TooMuchWorkError
from headmix_server.text.workers.encoders import Encoders
from headmix_server.text.workers.jobs import WriteGrammar
from headmix_server.text.workers.worker import BoundedJob, PreparedJob
from headmix_server.text.workers.worker_process import WorkerProcess


def test_reading_a_large_vocabulary_does_not_count_against_the_first_grammar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[int] = []
    build = TokenCompiler._build

    def noted(compiler: TokenCompiler, tokenizer: Tokenizer, size: int) -> LLTokenizer:
        built.append(size)
        return build(compiler, tokenizer, size)

    monkeypatch.setattr(TokenCompiler, "_build", noted)
    encoders = Encoders(write_base_folder(tmp_path))
    for words in (("yes", "no"), ("red", "blue")):
        job = WriteGrammar(Choice(words))
        assert isinstance(job, BoundedJob)
        assert isinstance(job, PreparedJob)
        job.prepare(encoders)
        assert len(built) == 1
        assert job.run(encoders)
    assert len(built) == 1


def test_a_grammar_that_takes_too_long_is_refused_and_the_worker_goes_on(tmp_path: Path) -> None:
    worker = WorkerProcess(write_base_folder(tmp_path), 1 << 30)
    try:
        assert worker.run(WriteGrammar(Choice(("yes", "no"))))
        pid = worker.pid
        with pytest.raises(TooMuchWorkError):
            worker.run(WriteGrammar(JsonText({"type": "integer", "multipleOf": 999_983 * 8})))
        with pytest.raises(GrammarError):
            worker.run(WriteGrammar(JsonText({"type": "no such type"})))
        assert worker.run(WriteGrammar(Choice(("red", "blue"))))
        assert worker.pid == pid
    finally:
        worker.close()
