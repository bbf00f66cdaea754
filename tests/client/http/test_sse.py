"""The event-stream decoder's promises."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from headmix.http.sse import ServerSentEvent, SSEDecoder

LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r"])
TEXT = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=12)
FIELDS = st.one_of(
    TEXT.map(lambda text: f"data: {text}"),
    TEXT.map(lambda text: f"data:{text}"),
    TEXT.map(lambda text: f": {text}"),
    TEXT.map(lambda text: f"event: {text}"),
    TEXT.map(lambda text: f"id: {text}"),
    st.sampled_from(["data", "retry: 10", "", "unknown: x", "data: äöü 🦜 漢字"]),
)
STREAMS = st.lists(st.tuples(FIELDS, LINE_ENDS), max_size=20).map(
    lambda lines: "".join(field + end for field, end in lines).encode()
)


def decode(blocks: list[bytes]) -> list[ServerSentEvent]:
    decoder = SSEDecoder()
    return [event for block in blocks for event in decoder.feed(block)]


@given(STREAMS, st.data())
def test_any_cutting_of_the_bytes_gives_the_same_events(stream: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    bounds = [0, *cuts, len(stream)]
    pieces = [stream[start:end] for start, end in itertools.pairwise(bounds)]
    assert decode(pieces) == decode([stream])
    assert decode([stream[place : place + 1] for place in range(len(stream))]) == decode([stream])


@given(STREAMS)
def test_a_byte_order_mark_changes_nothing(stream: bytes) -> None:
    assert decode([b"\xef", b"\xbb\xbf" + stream]) == decode([stream])


@given(st.lists(TEXT, min_size=1, max_size=5))
def test_data_lines_arrive_as_sent(lines: list[str]) -> None:
    stream = "".join(f"data: {line}\n" for line in lines) + "\n"
    assert decode([stream.encode()]) == [ServerSentEvent("\n".join(lines))]


def test_comments_and_pings_are_no_events() -> None:
    assert decode([b": ping\n\n:\r\n\r\ndata: 1\n\n"]) == [ServerSentEvent("1")]


def test_event_name_holds_for_one_event_and_id_until_changed() -> None:
    events = decode([b"event: error\nid: 7\ndata: a\n\ndata: b\n\n"])
    assert events == [ServerSentEvent("a", "error", "7"), ServerSentEvent("b", "message", "7")]


def test_an_event_is_delivered_at_its_end_even_with_bare_carriage_returns() -> None:
    assert SSEDecoder().feed(b"data: now\r\r") == [ServerSentEvent("now")]


def test_an_event_the_stream_breaks_off_in_is_discarded() -> None:
    assert decode([b"data: whole\n\ndata: half\n"]) == [ServerSentEvent("whole")]


def test_a_character_cut_in_half_survives() -> None:
    raw = "data: é\n\n".encode()
    assert decode([raw[:7], raw[7:]]) == [ServerSentEvent("é")]
