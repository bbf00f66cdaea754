"""Owns what is known of servers on this machine: whether a URL leads to one, and the key that it wrote at its start."""

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
    """A key and the file it is from."""

    file: Path
    text: str = field(repr=False)


def is_local(base_url: str) -> bool:
    """Whether the URL leads to this machine itself, so that nothing sent to it crosses a network."""
    try:
        host = httpx2.URL(base_url).host
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except (httpx2.InvalidURL, ValueError):
        return False


def find_local_key(base_url: str) -> LocalKey | None:
    """The administrator's key of the server at this URL, where that runs on this machine and was started here.

    Looked for in the folder that HEADMIX_DATA_DIR names, else in `.headmix*` of the current one. A key is only given
    for the server that wrote it: next to it lies the address that this server answers on.
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
