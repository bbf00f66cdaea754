"""Why the program cannot continue, in words for the person who started it."""

from collections.abc import Iterable

from headmix_server.core.settings.names import called


class StartError(Exception):
    """The server cannot start; the message gives the reason and, if possible, the remedy."""


class SettingError(StartError):
    """A setting has an invalid value; the message names the setting and says what it takes."""

    def __init__(self, name: str, fault: object) -> None:
        super().__init__(f"{called(name)} {fault}")


class SettingErrors(SettingError):
    """More than one setting has an invalid value."""

    def __init__(self, errors: Iterable[SettingError]) -> None:
        StartError.__init__(self, "; ".join(map(str, errors)))


class StartStopped(Exception):
    """The server was stopped before it had started."""
