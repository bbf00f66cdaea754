"""`base.json`: the record, written by earlier versions, of the base that a data folder's adapters were accepted for.

The catalog stores that now (`catalog.bind_base`). A file that an earlier version wrote is read, and removed once its
content is in the catalog.
"""

import json
from pathlib import Path

from headmix_adapters.base import ResolvedBase
from headmix_server.app.errors import StartError
from headmix_server.catalog.bind_base import BaseIdentity, OtherBaseError
from headmix_server.catalog.catalog import Catalog
from headmix_server.core.observability.logging import get_logger


def bind_base(record: Path, base: ResolvedBase, catalog: Catalog) -> None:
    """Bind the catalog to `base`.

    Raises:
        StartError: it is bound to another, or an adapter has the name of this base, which requests would reach instead.
        OSError: the record cannot be read or removed.
    """
    if catalog.knows_name(base.name):
        raise StartError(f"an adapter in this catalog has the name of the base, {base.name!r}: rename the base")
    try:
        bound = catalog.bind_base(base.shape, _read(record))
    except OtherBaseError as error:
        raise StartError(
            f"{error}, and {base.name} ({base.shape.fingerprint}) was given: start with the base it belongs to, "
            "or with another database and data folder"
        ) from error
    record.unlink(missing_ok=True)
    log = get_logger("app")
    for digest in bound.accepted:
        log.info("an artifact's header names another base: it was accepted for this one", digest=digest)
    for digest in bound.foreign:
        log.warning("an artifact belongs to another base: it is refused until it is uploaded again", digest=digest)


def _read(record: Path) -> BaseIdentity | None:
    """Return the base in the record, None if there is no record."""
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise StartError(f"{record} cannot be read: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("fingerprint"), str):
        raise StartError(f"{record} does not name a base")
    return BaseIdentity(str(content.get("name", "unknown")), content["fingerprint"])
