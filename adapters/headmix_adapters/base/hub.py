"""A base from the model hub, through huggingface_hub's own cache: the text files first, then the weights they name."""

import re
from pathlib import Path

from headmix_adapters.base.errors import BaseError
from headmix_adapters.base.weight_files import SINGLE, indexed_files

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
TEXT_FILES = ("*.json", "*.jinja", "*.txt", "*.model")


def is_hub_id(name: str) -> bool:
    """Return whether a name has the form of a hub id: `owner/model` or `model`."""
    return _HUB_ID.fullmatch(name) is not None


def hub_folder(repo_id: str) -> Path:
    """Download a model's files, or find them in the hub's cache, and return their folder.

    Raises:
        BaseError: the hub cannot be reached and the model is not in the cache, or there is no such model.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        folder = Path(snapshot_download(repo_id, allow_patterns=list(TEXT_FILES)))
        shards = [path.name for path in indexed_files(folder)]
        return Path(snapshot_download(repo_id, allow_patterns=[SINGLE, *shards]))
    except (OSError, ValueError, EntryNotFoundError) as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BaseError(
            f"no base {repo_id}: it is not an embedded base or a path, and the hub did not return it: {first_line}"
        ) from error
