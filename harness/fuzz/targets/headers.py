"""Target `headers`: raw bytes where HTTP is expected. An input is what one connection sends.

Whatever arrives, the server responds with a refusal or closes the connection, repeats nothing it was sent in its own
headers, and serves the next connection.
"""

import re

from hypothesis import strategies as st

from harness.fuzz.live_api import live_api
from harness.fuzz.targets.target import Target

PROBE = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
METHODS = (b"GET", b"POST", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"PATCH", b"TRACE", b"CONNECT")
OWN_FAULTS = frozenset({500, 502, 504})


def check(data: bytes) -> str:
    """Send the bytes on their own connection, then send a health probe on another."""
    api = live_api()
    answer = api.send_bytes(data.replace(b"$KEY", api.key.encode()))
    status = "closed"
    if answer is not None:
        status = str(answer.status)
        assert answer.status not in OWN_FAULTS, answer
        request_id = answer.headers.get("x-request-id")
        assert request_id is None or REQUEST_ID.fullmatch(request_id), request_id
    probe = api.send_bytes(PROBE)
    assert probe is not None, "the next connection was not answered"
    assert probe.status == 200, probe
    method = data.partition(b" ")[0]
    return f"{method.decode() if method in METHODS else '?'} {status}"


_METHODS = st.sampled_from([*METHODS, b"get", b"X" * 40, b"PRI"])
_PATHS = st.sampled_from(
    [
        *(
            b"/healthz",
            b"/v1/models",
            b"/v1/adapters",
            b"/v1/adapters/poet",
            b"/v1/completions",
            b"/metrics",
            b"/",
            b"*",
        ),
        *(b"http://other/v1/models", b"/v1/models?limit=99999999999999999999", b"/v1/adapters?after=%00", b"/%ff%fe"),
        *(b"/v1/adapters/..%2f..%2fetc", b"//v1/models", b"/v1/models/a%0d%0aX: y", b"/\xc3\xa9", b"/" + b"a" * 9000),
        *(b"/v1/usage?from=0001-01-01&to=9999-12-31", b"/v1/audit?limit=-1", b"/v1/adapters/poet?owner=%E2%80%AE"),
    ]
)
_NAMES = st.sampled_from(
    [
        *(b"Authorization", b"X-Request-Id", b"Content-Length", b"Transfer-Encoding", b"Content-Type", b"Expect"),
        *(b"Connection", b"Upgrade", b"Origin", b"Accept", b"Host", b"Traceparent", b"Range", b"If-None-Match"),
        *(
            b"X-Forwarded-For",
            b"Accept-Encoding",
            b"Content-Encoding",
            b"",
            b"A B",
            b"\xff",
            b"x" * 3000,
            b"Last-Event-ID",
        ),
    ]
)
_VALUES = st.sampled_from(
    [
        *(b"Bearer $KEY", b"bearer $KEY", b"Bearer ", b"Basic YTpi", b"Bearer $KEY $KEY", b"Bearer \xff\xfe"),
        *(b"0", b"10", b"-1", b"99999999999999999999", b"1, 1", b"chunked", b"gzip, chunked", b"identity"),
        *(b"application/json", b"multipart/form-data; boundary=b", b"text/event-stream", b"100-continue"),
        *(b"close", b"keep-alive", b"upgrade", b"websocket", b"h2c", b"*/*", b"bytes=0-18446744073709551615"),
        *(b"a\x00b", b"a\rb", b"\x1b[2J", b"y" * 20_000, b"", b"\t"),
    ]
) | st.binary(max_size=12)
_ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\n "])
_LINES = st.builds(lambda name, value, end: name + b": " + value + end, _NAMES, _VALUES, _ENDS)
_KEY = st.sampled_from([b"Authorization: Bearer $KEY\r\n", b""])
_BODIES = st.sampled_from(
    [
        *(
            b"",
            b"{}",
            b'{"model": "poet", "prompt": "a", "max_tokens": 1}',
            b"2\r\n{}\r\n0\r\n\r\n",
            b"zz\r\n",
            b"\x00",
        ),
        *(b"FFFFFFFFFFFFFFFFF\r\n{}", b"0\r\nX: y\r\n\r\n", PROBE, b"--b--\r\n"),
    ]
)


def _join(method: bytes, path: bytes, version: bytes, key: bytes, lines: list[bytes], body: bytes) -> bytes:
    return method + b" " + path + version + key + b"".join(lines) + b"\r\n" + body


_VERSIONS = st.sampled_from(
    [b" HTTP/1.1\r\n"] * 6 + [b" HTTP/1.0\r\n", b" HTTP/2.0\r\n", b"\r\n", b" HTTP/1.1\n", b" ICY\r\n"]
)
_REQUESTS = st.builds(_join, _METHODS, _PATHS, _VERSIONS, _KEY, st.lists(_LINES, max_size=6), _BODIES)
_MANY = st.integers(1, 4000).map(lambda count: b"GET /healthz HTTP/1.1\r\n" + b"A: b\r\n" * count + b"\r\n")
TARGET = Target(
    _REQUESTS | _REQUESTS | st.lists(_REQUESTS, max_size=3).map(b"".join) | _MANY | st.binary(max_size=60), check
)
