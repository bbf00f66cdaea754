"""A run's events are in their file once, in order and whole, though the run was killed and resumed."""

from pathlib import Path

import pytest

from headmix_adapters.train.errors import TargetError
from headmix_adapters.train.history.event_log import EventLog, RunEvents, open_events
from headmix_adapters.train.history.events import (
    Diverged,
    Done,
    Event,
    Failed,
    Resumed,
    Scored,
    Step,
    decode_events,
    encode_event,
)


def step(number: int, loss: float = 0.5) -> Step:
    return Step(step=number, epoch=number / 4, train_loss=loss, learning_rate=0.1, tokens=7 * number)


def scored(number: int) -> Scored:
    return Scored(step=number, epoch=1.0, train_loss=0.5, valid_loss=None, score=0.75, scores={"accuracy": 0.75})


def in_file(path: Path) -> list[Event]:
    return decode_events(path.read_bytes())


def test_an_event_is_one_line_of_json_that_names_its_kind() -> None:
    line = encode_event(step(3))
    assert line == b'{"event":"step","step":3,"epoch":0.75,"train_loss":0.5,"learning_rate":0.1,"tokens":21}\n'
    assert encode_event(Failed(status=1, message="no\nmemory")).count(b"\n") == 1
    assert decode_events(line + line[:20]) == [step(3)]


def test_a_line_can_be_read_as_soon_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    with open_events(path, resume=False) as log:
        log.write(step(1))
        assert in_file(path) == [step(1)]


def test_a_resumed_run_writes_only_what_the_file_lacks(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    before: list[Event] = [step(1), step(2), scored(2), step(3), Failed(status=1, message="killed")]
    path.write_bytes(b"".join(map(encode_event, before)) + b'{"event":"step","st')
    with open_events(path, resume=True) as log:
        for event in (Resumed(step=1), step(2), scored(2), step(3), step(4), scored(4)):
            log.write(event)
    assert in_file(path) == [*before, Resumed(step=1), step(4), scored(4)]


def test_a_new_run_empties_the_file_of_an_old_one(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    path.write_bytes(encode_event(step(9)))
    with open_events(path, resume=False) as log:
        log.write(step(1))
    assert in_file(path) == [step(1)]


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("data", [b'{"text": "a", "label": "b"}\n', b"a table without an end", b"\xff\n"])
def test_a_file_of_something_else_is_not_touched(tmp_path: Path, data: bytes, resume: bool) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(data)
    with (
        pytest.raises(TargetError, match=r"--events: .*train.jsonl holds something"),
        open_events(path, resume=resume),
    ):
        pytest.fail("it was opened")
    assert path.read_bytes() == data


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(TargetError, match="No such file"),
        open_events(tmp_path / "a" / "b", resume=False),
    ):
        pytest.fail("it was opened")
    with pytest.raises(TargetError, match=r"--events: .* directory"), open_events(tmp_path, resume=False):
        pytest.fail("it was opened")


def test_a_log_continues_after_the_events_it_is_told_of(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "e", [step(1), step(2)])
    log.write(step(2))
    log.write(step(3))
    log.close()
    assert in_file(tmp_path / "e") == [step(3)]


def test_each_run_of_a_sweep_has_its_own_steps_and_one_end(tmp_path: Path) -> None:
    path = tmp_path / "e"
    done = Done(artifact="a", digest="d", steps=2, scores={}, below_base=False)
    ends: dict[str, Event] = {"01-a": done, "02-b": Diverged(status=None, step=1, message="")}
    for _ in range(2):  # the second time, the process was killed before it recorded that the runs had ended
        with open_events(path, resume=True) as log:
            for run, last in ends.items():
                RunEvents(log, run).write(step(1))
                RunEvents(log, run).write(step(2))
                RunEvents(log, run).write(last)
            log.write(done)
    assert [(event.run, type(event)) for event in in_file(path)] == [
        *(("01-a", kind) for kind in (Step, Step, Done)),
        *(("02-b", kind) for kind in (Step, Step, Diverged)),
        *[("", Done)] * 2,  # each process's last line
    ]
