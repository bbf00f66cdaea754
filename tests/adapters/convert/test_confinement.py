"""A process's autogroup niceness is parsed as the kernel writes it."""

import pytest

from headmix_adapters.convert.confinement import session_niceness


@pytest.mark.parametrize(
    ("autogroup", "niceness"),
    [("/autogroup-33300 nice 0\n", 0), ("/autogroup-7 nice 5\n", 5), ("/autogroup-7 nice -3\n", -3), ("", 0)],
)
def test_a_session_has_the_niceness_the_kernel_tells_and_a_process_outside_of_any_has_none(
    autogroup: str, niceness: int
) -> None:
    assert session_niceness(autogroup) == niceness


def test_what_the_kernel_does_not_write_today_is_no_number() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        session_niceness("/autogroup-7 nice high\n")
