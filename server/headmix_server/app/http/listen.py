"""The listening socket, opened before anything slow, so that a port in use is reported at once."""

import errno
import socket

from headmix_server.app.errors import SettingError, StartError


def listen(host: str, port: int) -> socket.socket:
    """Open the port; 0 chooses a free one.

    Raises:
        SettingError: the address is not one of this machine's, or the port is not allowed.
        StartError: the port is in use.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except (socket.gaierror, UnicodeError) as error:
        raise SettingError("host", f"takes an address or name of this machine, not {host!r}") from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower().partition(" (while")[0]
        match error.errno:
            case errno.EADDRNOTAVAIL:
                fault = f"takes an address of this machine, such as 127.0.0.1 or 0.0.0.0, not {host!r}"
                raise SettingError("host", fault) from error
            case errno.EACCES | errno.EPERM:
                raise SettingError("port", f"takes a port this user may open, not {port}: {reason}") from error
        raise StartError(f"cannot listen on {host} port {port}: {reason}; choose another --port") from error
    # Accepted connections inherit it. asyncio does not set it on those of this listener (its protocol number is 0), and
    # the second write of a response would wait 40 ms for the client to acknowledge the first.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def url_of(listener: socket.socket, host: str) -> str:
    """Return the URL of the socket; its host is the loopback address if the socket listens on every address."""
    address = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104 - compared, not bound
    port = listener.getsockname()[1]
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
