"""A clock that advances when a test says so."""


class FakeClock:
    """Unix seconds, starting at the beginning of a minute."""

    def __init__(self) -> None:
        self.now = 28_333_333.0 * 60

    def __call__(self) -> float:
        return self.now
