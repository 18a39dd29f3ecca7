"""For the tests of applications: handlers run inline, and a whole pipeline as pytest fixtures.

`run_inline` needs nothing. `pytest_plugins = ["ferryman.testing"]` in a conftest.py brings the fixtures; they
need the servers of `ferryman[embedded]`.
"""

from __future__ import annotations

from ferryman.testing.inline import Enqueued, InlineRun, Progress, run_inline
from ferryman.testing.pipeline import (
    Pipeline,
    ferryman_client,
    ferryman_handlers,
    ferryman_pipeline,
    ferryman_queues,
)

__all__ = [
    "Enqueued",
    "InlineRun",
    "Pipeline",
    "Progress",
    "ferryman_client",
    "ferryman_handlers",
    "ferryman_pipeline",
    "ferryman_queues",
    "run_inline",
]
