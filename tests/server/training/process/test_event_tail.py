from pathlib import Path

from headmix_adapters.train.history.events import Checkpoint, Resumed, encode_event
from headmix_server.training.process.event_tail import EventTail


def test_each_event_is_read_once_and_only_when_its_line_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    tail = EventTail(path)
    assert tail.read() == []
    first, second = Resumed(step=1), Checkpoint(step=2, path="p")
    line = encode_event(second)
    path.write_bytes(encode_event(first) + line[:5])
    assert tail.read() == [first]
    assert tail.read() == []
    with path.open("ab") as file:
        file.write(line[5:])
    assert tail.read() == [second]
