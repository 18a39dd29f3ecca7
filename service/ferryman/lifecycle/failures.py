"""What may be answered to a question about a job, beside the ports' own errors."""

from __future__ import annotations

from ferryman.core.rates import Taken
from ferryman.core.status import JobStatus


class LifecycleError(Exception):
    """Base of what `lifecycle` raises. Messages are fit for the one who asked."""


class NotFoundError(LifecycleError):
    """There is no such thing, or it is not the asker's."""


class AlreadyFinalError(LifecycleError):
    """The job has ended, so it cannot be cancelled."""


class NotRetryableError(LifecycleError):
    """The job is neither retrying nor a dead letter."""


class TwinUnfinishedError(LifecycleError):
    """An unfinished job holds the unique key of the one that should run again."""


class NotDeadError(LifecycleError):
    """The letter was requeued or discarded before."""


class BuiltInQueueError(LifecycleError):
    """One of the queues that always exist, or a name that is kept for such."""


class TooManyWebhooksError(LifecycleError):
    """The tenant has as many endpoints as it may."""


class RefusedUrlError(LifecycleError):
    """Nothing may be sent to this URL. The message says what it takes."""


class WorkerAliveError(LifecycleError):
    """The worker that should be gone still beats."""


class KeyMismatchError(LifecycleError):
    """The idempotency key belongs to another request."""


class KeyBusyError(LifecycleError):
    """The first request with this idempotency key is not answered yet."""


class TooManyWaitsError(LifecycleError):
    """The tenant holds as many requests open as it may."""


class TooManyStreamsError(LifecycleError):
    """The user holds as many event streams open as a user may."""


class RateLimitedError(LifecycleError):
    """The rate is spent for now; `standing` says how the bucket stands."""

    def __init__(self, message: str, standing: Taken) -> None:
        super().__init__(message)
        self.standing = standing


class TooManyAtOnceError(LifecycleError):
    """More jobs in one call than the tenant's burst on the queue: it would never be let in."""

    def __init__(self, queue: str, *, jobs: int, burst: int) -> None:
        super().__init__(
            f"{jobs} jobs at once are more than the {burst} that the queue {queue} takes of a tenant; "
            "submit them in smaller calls"
        )


def not_found(what: str) -> NotFoundError:
    """The one sentence for what is not there and for what is somebody else's."""
    return NotFoundError(f"there is no such {what}")


def already_final(status: JobStatus | None) -> AlreadyFinalError:
    return AlreadyFinalError(
        f"the job has ended{f' as {status}' if status else ''}; nothing is left to cancel"
    )
