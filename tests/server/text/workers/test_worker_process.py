"""A real worker: the same ids as on the event loop, and what happens when it, a job or its parent fails."""

import os
import signal
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.bases.base_folder import write_base_folder
from harness.bases.tokenizer_kinds import KINDS, write_tokenizer
from headmix_adapters.machine.giving_way import LONG_NICENESS
from headmix_adapters.text.chat_template import ChatTemplateError, TemplateOptions
from headmix_server.core.errors import PayloadTooLarge, ServerOverloaded
from headmix_server.text.capacity import Capacity
from headmix_server.text.conversation import Conversation
from headmix_server.text.plain_text import UncuttableTokenError
from headmix_server.text.tokenizer import load_tokenizer
from headmix_server.text.truncation import Truncation
from headmix_server.text.workers.encoder import Words
from headmix_server.text.workers.encoders import Encoders
from headmix_server.text.workers.jobs import EncodeConversation, EncodeTexts, TextTooLongError
from headmix_server.text.workers.worker_process import WorkerProcess

MEMORY = 1 << 30
CAPACITY = Capacity(10, in_bytes=True)
TEXTS = ("The fox naïve 日本 ", "<subject> New York <subject>s", " x" * 3000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_base_folder(tmp_path / "base")


@pytest.fixture
def worker(folder: Path) -> Iterator[WorkerProcess]:
    process = WorkerProcess(folder, MEMORY)
    yield process
    process.close()


@dataclass(frozen=True)
class Pid:
    """A job that returns its worker's process id."""

    def run(self, encoders: Encoders) -> int:
        return os.getpid()


@dataclass(frozen=True)
class Exit:
    """A job that ends its worker."""

    def run(self, encoders: Encoders) -> None:
        os._exit(7)


@dataclass(frozen=True)
class Abort:
    """A job that ends its worker like a library that runs out of memory."""

    def run(self, encoders: Encoders) -> None:
        os.abort()


@dataclass(frozen=True)
class Environment:
    """A job that returns its environment."""

    def run(self, encoders: Encoders) -> dict[str, str]:
        return dict(os.environ)


@dataclass(frozen=True)
class Fill:
    """A job that allocates memory."""

    size: int

    def run(self, encoders: Encoders) -> int:
        return len(bytes(self.size))


@dataclass(frozen=True)
class Refuse:
    """A job that raises."""

    def run(self, encoders: Encoders) -> None:
        raise UncuttableTokenError("<s>")


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_of_the_event_loop(tmp_path: Path, kind: str) -> None:
    folder = write_tokenizer(tmp_path, kind)
    tokenizer, process = load_tokenizer(folder), WorkerProcess(folder, MEMORY)
    words = Words("digest", ("<subject>", "New York"), tokenizer.vocab_size + 5)
    try:
        plain = process.run(EncodeTexts("t", TEXTS, None, split=False, room=10_000))
        assert plain == [array("I", tokenizer.encode(text)) for text in TEXTS]
        extended = process.run(EncodeTexts("t", TEXTS, words, split=False, room=10_000))
        assert isinstance(extended, list)
        assert [words.first in ids for ids in extended] == [False, True, False]
        assert (extended[0], extended[2]) == (plain[0], plain[2])
    finally:
        process.close()


def test_nothing_is_read_after_a_text_that_is_too_long(worker: WorkerProcess) -> None:
    read = worker.run(EncodeTexts("t", ["a b", "a b c d e f", "a"], None, split=False, room=4))
    assert isinstance(read, list)
    assert [len(ids) > 4 for ids in read] == [False, True]


def test_a_conversation_is_rendered_and_read_there(worker: WorkerProcess, folder: Path) -> None:
    conversation = Conversation([{"role": "user", "content": "hello <|im_end|>", "name": None}] * 50)
    rendered = Encoders(folder)
    template = rendered.template(None)
    assert template is not None
    for split in (False, True):
        job = EncodeConversation("t", conversation, None, split, CAPACITY, 10_000)
        expected = rendered.get(None, "t").prepare(template, conversation, split=split).encode()
        assert worker.run(job) == array("I", expected)
    with pytest.raises(TextTooLongError):
        worker.run(EncodeConversation("t", conversation, None, False, CAPACITY, 3))


def test_texts_and_conversations_are_cut_there_as_here(worker: WorkerProcess, folder: Path) -> None:
    here, cut = Encoders(folder), Truncation(3)
    encoder, template = here.get(None, "t"), here.template(None)
    assert template is not None
    ids = encoder.encode("a b c d e f")
    assert worker.run(EncodeTexts("t", ["a b c d e f"], None, False, 99, truncation=cut)) == [
        array("I", cut.cut(ids, encoder.around))
    ]
    turns = [{"role": "user", "content": "hello", "name": None}] * 9
    whole = encoder.prepare(template, Conversation(turns), split=False).encode()
    job = EncodeConversation("t", Conversation(turns), None, False, CAPACITY, 3, cut)
    assert worker.run(job) == array("I", whole[-3:])


def test_special_tokens_in_a_templates_variables_are_split_too(worker: WorkerProcess, folder: Path) -> None:
    source = "{{ messages[0].content }}{{ note.text }}{% for name in note %}{{ name }}{% endfor %}{{ note.list[0] }}"
    (folder / "chat_template.jinja").write_text(source, encoding="utf-8")
    end = load_tokenizer(folder).token_id("<|im_end|>")
    options = TemplateOptions(variables={"note": {"text": "a<|im_end|>", "<|im_end|>": 1, "list": ["<|im_end|>"]}})
    turns = [{"role": "user", "content": "hello <|im_end|>", "name": None}]
    counts = []
    for split in (False, True):
        conversation = Conversation(turns, options=options)
        ids = worker.run(EncodeConversation("t", conversation, None, split, CAPACITY, 10_000))
        assert isinstance(ids, array)
        counts.append(ids.count(end or -1))
    assert counts == [4, 0]


def test_a_template_that_refuses_a_conversation_says_why_there_too(worker: WorkerProcess, folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ raise_exception('no roles but user') }}", encoding="utf-8")
    asked = Conversation([{"role": "user", "content": "x", "name": None}])
    with pytest.raises(ChatTemplateError, match="no roles but user"):
        worker.run(EncodeConversation("t", asked, None, False, CAPACITY, 10))


def test_what_a_job_raises_is_raised_here_and_the_worker_goes_on(worker: WorkerProcess) -> None:
    with pytest.raises(UncuttableTokenError) as raised:
        worker.run(Refuse())
    assert raised.value.text == "<s>"
    pid = worker.pid
    assert worker.run(Fill(1)) == 1
    assert worker.pid == pid


def test_a_worker_that_dies_in_a_job_or_between_two_is_replaced(worker: WorkerProcess) -> None:
    with pytest.raises(ServerOverloaded, match="ended while it read"):
        worker.run(Exit())
    assert worker.run(Fill(1)) == 1
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
    assert worker.run(Fill(1)) == 1


def test_a_job_that_takes_too_much_memory_fails_alone(worker: WorkerProcess) -> None:
    with pytest.raises(PayloadTooLarge, match="more memory"):
        worker.run(Fill(2 * MEMORY))
    assert worker.run(Fill(MEMORY // 4)) == MEMORY // 4


def test_a_library_that_gets_no_memory_is_reported_as_such(worker: WorkerProcess) -> None:
    with pytest.raises(PayloadTooLarge, match="more memory"):
        worker.run(Abort())
    assert worker.run(Fill(1)) == 1


def test_a_worker_is_given_none_of_the_servers_secrets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADMIX_DATABASE", "postgresql://user:secret@host/name")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    process = WorkerProcess(folder, MEMORY)
    try:
        environment = process.run(Environment())
    finally:
        process.close()
    assert isinstance(environment, dict)
    assert "PATH" in environment
    assert not [name for name, value in environment.items() if "secret" in value]


def test_a_program_that_cannot_be_started_is_an_error_and_no_hang(folder: Path) -> None:
    with pytest.raises(ServerOverloaded):
        WorkerProcess(folder, MEMORY, python=("/no/such/program",)).run(Fill(1))


_PARENT = """
import sys, threading
from pathlib import Path
from tests.server.text.workers.test_worker_process import Sleep
from headmix_server.text.workers.worker_process import WorkerProcess
worker = WorkerProcess(Path(sys.argv[1]), 1 << 30)
threading.Thread(target=worker.run, args=(Sleep(),)).start()
while worker.pid is None: pass
print("worker", worker.pid, flush=True)
"""


@dataclass(frozen=True)
class Sleep:
    """A job that never ends."""

    def run(self, encoders: Encoders) -> None:
        time.sleep(1000)


def test_it_ends_with_its_parent_though_that_was_killed_in_the_middle_of_a_job(folder: Path) -> None:
    root = Path(__file__).parents[4]
    with subprocess.Popen([sys.executable, "-c", _PARENT, str(folder)], stdout=subprocess.PIPE, cwd=root) as parent:
        try:
            assert parent.stdout is not None
            child = next(int(line.split()[1]) for line in parent.stdout if line.startswith(b"worker "))
            time.sleep(0.5)  # into the job; the promise also holds before it
        finally:
            parent.kill()
    while Path(f"/proc/{child}/stat").exists():
        if Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            break  # it has ended; the system decides who reaps it
        time.sleep(0.01)


@dataclass(frozen=True)
class Compute:
    """A job that computes until its thread has the priority of long work, and returns whether that came to pass."""

    def run(self, encoders: Encoders) -> bool:
        began = time.monotonic()
        while os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) < LONG_NICENESS:
            if time.monotonic() - began > 60:
                return False
        return True


@pytest.mark.skipif(sys.platform != "linux", reason="a priority per thread is Linux'")
def test_a_long_job_gives_way_to_the_engine(worker: WorkerProcess) -> None:
    assert worker.run(Compute()) is True


def test_a_worker_stays_in_the_session_within_which_niceness_counts(worker: WorkerProcess) -> None:
    pid = worker.run(Pid())
    assert isinstance(pid, int)
    assert os.getsid(pid) == os.getsid(0)
    assert os.getpgid(pid) == pid  # a terminal's Ctrl-C does not reach it
