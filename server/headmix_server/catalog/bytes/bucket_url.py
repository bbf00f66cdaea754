"""The URL of a bucket: its kind, its location, and the options in its query, separated before obstore sees them.

obstore takes the options of a store and those of its HTTP client separately, and panics if one is in the wrong place.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlsplit

TAKES: Final = "it takes s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"

KINDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "s3": ("aws_",),
        "s3a": ("aws_",),
        "gs": ("google_",),
        "az": ("azure_",),
        "azure": ("azure_",),
        "adl": ("azure_",),
        "abfs": ("azure_",),
        "abfss": ("azure_",),
    }
)
"""Schemes, with the prefixes that the names of the kind's options may have."""

CLIENT_OPTIONS: Final = frozenset(
    {
        "allow_http",
        "allow_invalid_certificates",
        "connect_timeout",
        "default_content_type",
        "http1_only",
        "http2_keep_alive_interval",
        "http2_keep_alive_timeout",
        "http2_keep_alive_while_idle",
        "http2_max_frame_size",
        "http2_only",
        "pool_idle_timeout",
        "pool_max_idle_per_host",
        "proxy_ca_certificate",
        "proxy_excludes",
        "proxy_url",
        "randomize_addresses",
        "read_timeout",
        "root_certificate",
        "timeout",
        "user_agent",
    }
)
"""Options of the HTTP client, the same for all kinds."""

_ADDRESSES: Final = frozenset(
    {"endpoint", "endpoint_url", "proxy_url", "base_url", "sts_endpoint", "metadata_endpoint"}
)
_PLACES: Final = frozenset({"bucket", "bucket_name", "container_name"})


class BucketUrlError(Exception):
    """It is not a valid bucket URL; the message gives the reason, without option values or passwords."""


@dataclass(frozen=True, slots=True)
class BucketUrl:
    """A URL without its query, the options from the query, and the form shown in messages."""

    address: str
    options: Mapping[str, str]
    client_options: Mapping[str, str]
    shown: str


def read_bucket_url(text: str) -> BucketUrl:
    """Read the URL of a bucket.

    Raises:
        BucketUrlError: it is not one, or an option is repeated, misplaced or has an invalid value.
    """
    try:
        parts = urlsplit(text)
        port, host = parts.port, parts.hostname or ""
    except ValueError as error:
        raise BucketUrlError(f"cannot be read as a URL; {TAKES}") from error
    if parts.scheme not in KINDS:
        raise BucketUrlError(f"is not the URL of a bucket; {TAKES}")
    if not host:
        raise BucketUrlError(f"names no bucket; {TAKES}")
    if parts.password is not None or (parts.username and parts.scheme in ("s3", "s3a", "gs")):
        raise BucketUrlError("has a user or password in it; credentials come from the environment or the query")
    if port is not None or parts.fragment:
        raise BucketUrlError(
            f"has a port or a fragment, and buckets have none; {TAKES}, and ?endpoint=https://host:port"
        )
    store, client = _options(parts)
    shown = f"{parts.scheme}://{host}{parts.path}"
    return BucketUrl(parts._replace(query="", fragment="").geturl(), store, client, shown)


def _options(parts: SplitResult) -> tuple[dict[str, str], dict[str, str]]:
    store, client = dict[str, str](), dict[str, str]()
    for given, value in parse_qsl(parts.query, keep_blank_values=True):
        name = given.lower()
        for prefix in KINDS[parts.scheme]:
            name = name.removeprefix(prefix)
        if not value:
            raise BucketUrlError(f"has the option {given!r} without a value")
        if name in store or name in client:
            raise BucketUrlError(f"has the option {given!r} twice")
        if name in _PLACES:
            raise BucketUrlError(f"has the option {given!r}, and the bucket is what stands before the path")
        if name in _ADDRESSES and not value.startswith(("http://", "https://")):
            raise BucketUrlError(f"has an option {given!r} that does not begin with http:// or https://")
        (client if name in CLIENT_OPTIONS else store)[name] = value
    return store, client
