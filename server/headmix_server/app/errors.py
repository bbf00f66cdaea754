"""Why the program cannot go on, in words for the person who started it."""

from collections.abc import Iterable

from headmix_server.core.setting_names import called


class StartError(Exception):
    """The server cannot start; the message says why and, where it can, what helps."""


class SettingError(StartError):
    """A setting has a value it cannot have; the message names it and says what it takes."""

    def __init__(self, name: str, fault: object) -> None:
        super().__init__(f"{called(name)} {fault}")


class SettingErrors(SettingError):
    """More than one setting has a value it cannot have."""

    def __init__(self, errors: Iterable[SettingError]) -> None:
        StartError.__init__(self, "; ".join(map(str, errors)))


class StartStopped(Exception):
    """The server was told to stop before it had started."""
