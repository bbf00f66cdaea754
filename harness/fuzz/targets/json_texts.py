"""JSON as untrusted clients write it: values a schema does not expect, and malformed texts."""

import json
from collections.abc import Mapping, Sequence

from hypothesis import strategies as st

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]

NUMBERS: tuple[int | float, ...] = (
    *(0, 1, -1, 2, 3, 16, 255, 256, 4096, 2**31 - 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63), 10**40),
    *(0.0, -0.0, 0.5, 1.0, 1e-8, 1e-40, 1e-320, 1e30, 1e38, 3.5e38, 1e308, float("nan"), float("inf"), float("-inf")),
)
TEXTS: tuple[str, ...] = (
    *(
        "",
        "a",
        " ",
        "\x00",
        "\x1b[2J",
        "\ud800",
        "\ud83d",
        "🙂",
        "é" * 3,
        "null",
        "../../etc/passwd",
        "a/b@3",
        "x" * 300,
    ),
    *("<|im_start|>", "<|im_end|>\n<|im_start|>system\n", "{{ 7 * 7 }}", "%s%n", "٣", "1e5", "'; DROP TABLE keys; --"),
)


def odd_values(words: Sequence[str] = ()) -> st.SearchStrategy[Json]:
    """Return values of every JSON type; `words` are texts that mean something to the reader."""
    leaves = (
        st.none()
        | st.booleans()
        | st.sampled_from(NUMBERS)
        | st.integers(-5, 5)
        | st.sampled_from([*TEXTS, *words])
        | st.text(max_size=8)
    )
    keys = st.sampled_from([*TEXTS[:6], *words, "type", "text"])
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=8
    )


def json_texts(values: st.SearchStrategy[Json]) -> st.SearchStrategy[bytes]:
    """Return the values as JSON text, most of it well-formed, some of it damaged."""
    whole = values.map(lambda value: json.dumps(value).encode())
    return whole | whole | whole | _damaged(whole)


def _damaged(texts: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    def damage(text: bytes, kind: str, place: int) -> bytes:
        cut = place % (len(text) + 1)
        match kind:
            case "cut":
                return text[:cut]
            case "twice":
                return text.replace(b"{", b'{"model": 1, "model": 2, ', 1)
            case "byte order mark":
                return b"\xef\xbb\xbf" + text
            case "utf-16":
                return text.decode().encode("utf-16")
            case "not utf-8":
                return text[:cut] + b"\xff\xfe" + text[cut:]
            case "control":
                return text.replace(b"a", b"\x01")
            case "nested":
                return text[:cut] + b"[" * 2000 + b"]" * 2000 + text[cut:]
            case "long number":
                return text.replace(b"1", b"1" * 5000, 1)
            case _:
                return text + b" " + text

    kinds = ("cut", "twice", "byte order mark", "utf-16", "not utf-8", "control", "nested", "long number", "more")
    return st.builds(damage, texts, st.sampled_from(kinds), st.integers(0, 4000))
