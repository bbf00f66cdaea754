"""What a setting is called: as a flag, as a variable, and in a sentence about it."""


def flag(name: str) -> str:
    """Return the command line's name of a setting."""
    return f"--{name.replace('_', '-')}"


def variable(name: str) -> str:
    """Return the environment's name of a setting."""
    return f"HEADMIX_{name.upper()}"


def called(name: str) -> str:
    """Return both names, for a sentence that says what is wrong with the setting."""
    return f"{flag(name)} ({variable(name)})"
