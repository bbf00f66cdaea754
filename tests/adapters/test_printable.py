import pytest

from headmix_adapters.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\rb\nc\td\x7f", r"a\rb\nc\td\x7f"),
        ("user\u202egnp.exe\u2066", r"user\u202egnp.exe\u2066"),
        ("\udc80", r"\udc80"),
        ("Grüße, 世界", "Grüße, 世界"),
        ("\U0001f468\u200d\U0001f469 mi\u200cravam", "\U0001f468\u200d\U0001f469 mi\u200cravam"),
    ],
)
def test_what_steers_a_terminal_is_shown_as_its_escape_and_all_else_as_it_is(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_text_of_several_lines_keeps_them_but_for_what_goes_back_in_a_line() -> None:
    assert printable("a\n\tb\r\x1b[A", lines=True) == "a\n\tb\\r\\x1b[A"
