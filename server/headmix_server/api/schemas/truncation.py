"""Bodies whose texts are cut to a number of tokens where the client asks for it."""

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from headmix_server.api.schemas.body import ModelBody
from headmix_server.api.schemas.common import LARGEST
from headmix_server.api.schemas.numbers import Whole

ALL_THAT_FITS = -1


def _require_some(tokens: int) -> int:
    if tokens == 0:
        raise ValueError("the value must be -1, for as many as fit, or at least 1")
    return tokens


class TruncatingBody(ModelBody):
    """A body with a text or several. Of a longer one its last tokens stay, or with `keeps_first` its first ones."""

    keeps_first: ClassVar[bool] = False

    truncate_prompt_tokens: (
        Annotated[int, Field(ge=ALL_THAT_FITS, le=LARGEST), AfterValidator(_require_some), Whole] | None
    ) = Field(None, description="The most tokens that are kept of a text; -1 keeps as many as fit.")
