"""What a setting's value may be: bounds that hold for every setting of a kind, and words for "none"."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr


def _given(value: object) -> object:
    if isinstance(value, str) and not value.strip():
        raise ValueError("must not be empty")
    if isinstance(value, str) and "\0" in value:
        raise ValueError("must not hold the character NUL")
    return value


def _or_none(value: object) -> object:
    """Accept the word that the documentation uses for the default."""
    return None if value == "none" else _given(value)


def _at_home(path: Path | None) -> Path | None:
    try:
        return None if path is None else path.expanduser()
    except RuntimeError as error:
        raise ValueError("begins with the home folder of a user this machine does not have") from error


Count = Annotated[int, Field(le=2**31 - 1)]
"""A count, or a size in MiB: more than any machine has, but small enough to compute with."""
Places = Annotated[int, Field(le=2**16)]
"""A count of things that each take memory from the start."""
Threads = Annotated[int, Field(le=1024)]
Limit = Annotated[int, Field(le=2**63 - 1)]
"""The largest number a database can store."""
Seconds = Annotated[float, Field(le=365 * 24 * 3600.0)]
Text = Annotated[str, BeforeValidator(_given)]
OptionalText = Annotated[str | None, BeforeValidator(_or_none)]
Folder = Annotated[Path, BeforeValidator(_given), AfterValidator(_at_home)]
OptionalFolder = Annotated[Path | None, BeforeValidator(_or_none), AfterValidator(_at_home)]
Train = Literal["off", "here", "idle"]
Url = Annotated[SecretStr | None, BeforeValidator(_or_none)]
"""A URL that may contain a password. `app.startup.check_settings` has its form checked by the parts that use it."""
