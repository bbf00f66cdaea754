"""Which base the data folder's adapters were accepted for, remembered so that another base never serves them unseen.

An upload is checked against the base once, when it arrives; this keeps that check true for every later start.
"""

import json
from pathlib import Path

from headmix_adapters.base import ResolvedBase
from headmix_server.app.errors import StartError
from headmix_server.catalog.catalog import Catalog


def bind_base(record: Path, base: ResolvedBase, catalog: Catalog) -> None:
    """Make `base` the one that `record` names, unless adapters in the catalog were accepted for another.

    Raises:
        StartError: they were, or one of them has the name of this base, which would answer in its place.
        OSError: the record cannot be read or written.
    """
    if catalog.knows_name(base.name):
        raise StartError(f"an adapter in this data folder has the name of the base, {base.name!r}: rename the base")
    known = _read(record)
    fingerprint = base.shape.fingerprint
    if known is not None and known != fingerprint and not catalog.is_empty():
        raise StartError(
            f"the adapters in this data folder were accepted for another base (fingerprint {known}, this one has "
            f"{fingerprint}): start with that base, or with another data folder"
        )
    if known != fingerprint:
        draft = record.with_suffix(".tmp")
        draft.write_text(json.dumps({"name": base.name, "fingerprint": fingerprint}), encoding="utf-8")
        draft.replace(record)


def _read(record: Path) -> str | None:
    """Return the fingerprint in the record, None where there is no record."""
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise StartError(f"{record} cannot be read: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("fingerprint"), str):
        raise StartError(f"{record} does not name a base")
    return str(content["fingerprint"])
