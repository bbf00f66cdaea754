"""The names of a setting: as a flag, as a variable, and in messages about it."""


def flag(name: str) -> str:
    """Return a setting's command-line flag."""
    return f"--{name.replace('_', '-')}"


def variable(name: str) -> str:
    """Return a setting's environment variable."""
    return f"HEADMIX_{name.upper()}"


def called(name: str) -> str:
    """Return both names, for a message that says what is wrong with the setting."""
    return f"{flag(name)} ({variable(name)})"
