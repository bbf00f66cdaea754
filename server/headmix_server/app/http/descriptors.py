"""The process's limit on open files: each connection takes one, so the limit is raised as far as the system allows."""

import resource

from headmix_server.core.observability.logging import get_logger

RESERVED = 512
"""Files, database connections and pipes that the server opens besides connections."""


def room_for_connections(wanted: int) -> int:
    """Raise the limit for the wanted number of connections; return how many there is room for."""
    log = get_logger("app")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + RESERVED
    if soft != resource.RLIM_INFINITY and soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
        except (OSError, ValueError) as error:
            log.warning("the limit of open files cannot be raised", limit=soft, reason=str(error))
        else:
            log.info("limit of open files raised", before=soft, limit=raised)
            soft = raised
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    room = max(soft - RESERVED, soft // 2)
    log.warning("fewer connections than set", max_connections=wanted, connections=room, open_files=soft)
    return room
