"""A request that is a line of a batch: it comes from the server itself, for a tenant, through the application.

It is authenticated, admitted and answered like any other, except that it waits where others are refused.
"""

from dataclasses import dataclass

from starlette.types import Scope

from headmix_server.batches.held_models import HeldModels
from headmix_server.batches.line import Rest
from headmix_server.tenancy.keys.principal import Principal

_KEY = "headmix.batch_line"


@dataclass(frozen=True, slots=True)
class BatchLine:
    """Whose line it is, and the batch's models; it waits for its tenant's rates within `rest`."""

    principal: Principal
    models: HeldModels
    rest: Rest


def mark_line(scope: Scope, line: BatchLine) -> None:
    """Mark a request as a line of a batch. Requests that arrive over HTTP cannot be marked."""
    scope[_KEY] = line


def line_in(scope: Scope) -> BatchLine | None:
    """Return the line that a request is, or None."""
    line = scope.get(_KEY)
    return line if isinstance(line, BatchLine) else None
