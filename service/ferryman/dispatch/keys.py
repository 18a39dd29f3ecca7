"""Redis keys that Python names itself; `lua/queue.lua` lists them all and derives the rest.

Everything of a queue lies under one hash tag, so that a script's keys share a slot. Beside the queues there
are the buckets of `lua/rate.lua`, which alone expire by themselves.
"""

from __future__ import annotations


def prefix(queue: str) -> str:
    """What every key of the queue begins with; the scripts derive their keys from it."""
    return f"fm:{{{queue}}}"


def wake(queue: str) -> str:
    """Sorted set with at most one member: there is work."""
    return f"{prefix(queue)}:wake"


def queue_of_wake(key: str) -> str:
    """The queue whose `wake` key this is."""
    return key[len("fm:{") : -len("}:wake")]


def meta(queue: str) -> str:
    """Hash of settings and state; without the field `epoch` the queue is cold."""
    return f"{prefix(queue)}:meta"


def count(queue: str) -> str:
    """Hash of waiting ids by kind and tenant: `ready:<tenant>`, `scheduled:<tenant>`, `retrying:<tenant>`."""
    return f"{prefix(queue)}:count"


def rate(bucket: str) -> str:
    """The instant at which this bucket of tokens will be full again, in microseconds; gone when it is."""
    return f"fm:rate:{bucket}"
