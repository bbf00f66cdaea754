"""A clock that goes on when a test tells it to."""


class FakeClock:
    """Unix seconds, at first the beginning of a minute."""

    def __init__(self) -> None:
        self.now = 28_333_333.0 * 60

    def __call__(self) -> float:
        return self.now
