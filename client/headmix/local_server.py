"""Owns what is known about servers on this machine: whether a URL is local, and the key the server wrote at startup."""

import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

DATA_DIR_VARIABLE = "HEADMIX_DATA_DIR"
DATA_DIRS = ".headmix*"
KEY_FILE = "admin.key"
ADDRESS_FILE = "address"


@dataclass(frozen=True, slots=True)
class LocalKey:
    """A key and the file it comes from."""

    file: Path
    text: str = field(repr=False)


def is_local(base_url: str) -> bool:
    """Return whether the URL is on this machine, so that nothing sent to it crosses a network."""
    try:
        host = httpx2.URL(base_url).host
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except (httpx2.InvalidURL, ValueError):
        return False


def find_local_key(base_url: str) -> LocalKey | None:
    """Return the admin key of the server at this URL, if it runs on this machine and its data folder is found.

    Searches the folder named by HEADMIX_DATA_DIR, or else `.headmix*` in the current folder. A key is only returned for
    the server that wrote it: the address that server listens on is stored next to the key.
    """
    if not is_local(base_url):
        return None
    port = _port(base_url)
    named = os.environ.get(DATA_DIR_VARIABLE)
    folders = [Path(named).expanduser()] if named else sorted(Path().glob(DATA_DIRS))
    for folder in folders:
        address, key = _read(folder / ADDRESS_FILE), _read(folder / KEY_FILE)
        if address and key and _port(address) == port:
            return LocalKey(folder / KEY_FILE, key)
    return None


def _port(url: str) -> int | None:
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL:
        return None
    return parsed.port or {"http": 80, "https": 443}.get(parsed.scheme)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
