import pytest

from headmix_server.api.inference.rate_headers import span


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "0s"),
        (20, "20ms"),
        (1000, "1s"),
        (8640, "8.64s"),
        (59_999, "59.999s"),
        (60_000, "1m0s"),
        (83_500, "1m23.5s"),
        (360_000, "6m0s"),
    ],
)
def test_times_are_written_as_openai_does(milliseconds: int, text: str) -> None:
    assert span(milliseconds) == text
