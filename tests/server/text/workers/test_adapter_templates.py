"""An adapter's template in a real worker: the same prompt as here, and bounded, whatever it does."""

from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.bases.base_folder import write_base_folder
from headmix_server.text.adapter_template import AdapterTemplate, TemplateFacts
from headmix_server.text.capacity import Capacity
from headmix_server.text.conversation import Conversation
from headmix_server.text.workers.apart import TooMuchWorkError
from headmix_server.text.workers.encoders import Encoders
from headmix_server.text.workers.jobs import CompileTemplate, EncodeConversation, ReadTemplate
from headmix_server.text.workers.worker_process import WorkerProcess

CAPACITY = Capacity(10, in_bytes=True)
ENDLESS = "{% for a in range(9999) %}{% for b in range(9999) %}{% set c = a * b %}{% endfor %}{% endfor %}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_base_folder(tmp_path / "base")


@pytest.fixture
def worker(folder: Path) -> Iterator[WorkerProcess]:
    process = WorkerProcess(folder, 1 << 30)
    yield process
    process.close()


def test_it_renders_as_here(worker: WorkerProcess, folder: Path) -> None:
    template = AdapterTemplate("{% for m in messages %}({{ m.role }}) {{ m.content }} <|im_end|>{% endfor %}")
    conversation, encoders = Conversation([{"role": "user", "content": "x <|im_end|>"}]), Encoders(folder)
    compiled = encoders.template(template)
    assert compiled is not None
    for split in (False, True):
        here = encoders.get(None, "t").prepare(compiled, conversation, split=split).encode()
        job = EncodeConversation("t", conversation, None, split, CAPACITY, 10_000, None, template)
        assert worker.run(job) == array("I", here)


def test_an_endless_template_ends_its_worker_and_is_reported(worker: WorkerProcess) -> None:
    conversation, template = Conversation([{"role": "user", "content": "x"}]), AdapterTemplate(ENDLESS)
    with pytest.raises(TooMuchWorkError):
        worker.run(EncodeConversation("t", conversation, None, False, CAPACITY, 10, None, template))
    assert isinstance(worker.run(ReadTemplate(AdapterTemplate("{{ tools }}"))), TemplateFacts)


@pytest.mark.parametrize(
    ("source", "reason"), [("{{ messages }}", None), ("{% for %}", "not valid"), ("{{ 'a' * 10 ** 12 }}", None)]
)
def test_it_is_compiled_there_and_nothing_of_it_is_evaluated(
    worker: WorkerProcess, source: str, reason: str | None
) -> None:
    fault = worker.run(CompileTemplate(AdapterTemplate(source)))
    assert fault is None if reason is None else reason in str(fault)


@pytest.mark.parametrize(
    ("source", "takes", "variables"),
    [("{{ tools }}{{ mood }}", True, {"mood"}), ("{{ messages }}", False, set()), ("{% for %}", False, set())],
)
def test_what_it_reads_is_tried_there(worker: WorkerProcess, source: str, takes: bool, variables: set[str]) -> None:
    facts = worker.run(ReadTemplate(AdapterTemplate(source)))
    assert isinstance(facts, TemplateFacts)
    assert facts.takes_tools is takes
    assert facts.variables == variables
