"""Free TCP ports on 127.0.0.1."""

import random
import socket
from pathlib import Path

HOST = "127.0.0.1"

_LOWEST = 15_000
_DEFAULT_EPHEMERAL_START = 32_768
_TRIES = 200
_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def accepts(port: int) -> bool:
    """Whether somebody listens on `port`."""
    try:
        with socket.create_connection((HOST, port), timeout=1.0):
            return True
    except OSError:
        return False


def free_port() -> int:
    """A port that was free a moment ago; somebody else may still take it first.

    It lies below the range from which outgoing connections take theirs, so that a restarted server finds it
    free.
    """
    above = _ephemeral_start()
    for _ in range(_TRIES):
        port = random.randrange(_LOWEST, above)
        if is_free(port):
            return port
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _ephemeral_start() -> int:
    try:
        start = int(_EPHEMERAL_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        start = _DEFAULT_EPHEMERAL_START
    return start if start > _LOWEST + _TRIES else _DEFAULT_EPHEMERAL_START
