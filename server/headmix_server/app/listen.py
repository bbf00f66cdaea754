"""The listening socket, opened before anything slow, so that a port in use is told at once."""

import socket

from headmix_server.app.errors import StartError


def listen(host: str, port: int) -> socket.socket:
    """Open the port; 0 takes a free one.

    Raises:
        StartError: the port is in use or not allowed, or the address is not one of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StartError(f"cannot listen on {host} port {port}: {reason.lower()}; choose another --port") from error


def url_of(listener: socket.socket, host: str) -> str:
    """Return the URL to reach the socket under; the loopback where it listens on every address."""
    address = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104 - compared, not bound
    port = listener.getsockname()[1]
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
