"""What the worker uses of arq 0.28. A change there turns this red before it breaks a pipeline."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import fields
from importlib.metadata import version
from typing import Any

import arq
import arq.connections
import arq.jobs
import arq.utils
import arq.worker
from arq.cron import CronJob

from ferryman.worker.arq_redis import LedgerJob, LedgerRedis


def names_called(function: Callable[..., Any]) -> list[str]:
    """The calls in a function's body, in the order in which they stand."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [ast.unparse(call.func) for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset))]


def parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_the_version_is_the_one_that_was_read() -> None:
    assert version("arq").startswith("0.28.")


def test_the_worker_takes_what_we_give_and_settings_classes_hold() -> None:
    assert parameters(arq.worker.Worker.__init__) == [
        "self",
        "functions",
        "queue_name",
        "cron_jobs",
        "redis_settings",
        "redis_pool",
        "burst",
        "on_startup",
        "on_shutdown",
        "on_job_start",
        "on_job_end",
        "after_job_end",
        "handle_signals",
        "job_completion_wait",
        "max_jobs",
        "job_timeout",
        "keep_result",
        "keep_result_forever",
        "poll_delay",
        "queue_read_limit",
        "max_tries",
        "health_check_interval",
        "health_check_key",
        "ctx",
        "retry_jobs",
        "allow_abort_jobs",
        "max_burst_jobs",
        "job_serializer",
        "job_deserializer",
        "expires_extra_ms",
        "timezone",
        "log_results",
    ]


def test_a_function_and_a_cron_job_have_what_a_handler_reads() -> None:
    assert [field.name for field in fields(arq.worker.Function)] == [
        "name",
        "coroutine",
        "timeout_s",
        "keep_result_s",
        "keep_result_forever",
        "max_tries",
    ]
    assert {"name", "coroutine", "timeout_s", "max_tries"} <= {f.name for f in fields(CronJob)}
    assert parameters(arq.worker.func) == [
        "coroutine",
        "name",
        "keep_result",
        "timeout",
        "keep_result_forever",
        "max_tries",
    ]


def test_main_starts_up_before_its_first_cycle() -> None:
    """Our `main` keeps this order: pool, Redis' greeting, `ctx`, `on_startup`, then cycles."""
    calls = names_called(arq.worker.Worker.main)
    assert [
        call for call in calls if call in {"log_redis_info", "self.on_startup", "self._poll_iteration"}
    ] == [
        "log_redis_info",
        "self.on_startup",
        "self._poll_iteration",
    ]
    assert "self.ctx['redis'] = self.pool" in inspect.getsource(arq.worker.Worker.main)


def test_async_run_is_main_on_the_loop_of_the_constructor() -> None:
    assert names_called(arq.worker.Worker.async_run) == ["self.loop.create_task", "self.main"]


def test_close_ends_in_the_order_that_ours_leans_on() -> None:
    """It waits for `tasks`, deletes the health key, shuts down and closes the pool; ours empties `tasks`
    before, and runs `on_shutdown` where deleting the key failed.
    """
    assert names_called(arq.worker.Worker.close) == [
        "self.handle_sig",
        "asyncio.gather",
        "self.tasks.values",
        "self.pool.delete",
        "self.on_shutdown",
        "self.pool.close",
    ]


def test_signals_go_to_the_two_methods_that_ours_overrides() -> None:
    source = inspect.getsource(arq.worker.Worker.__init__)
    handlers = {
        line.rsplit("self.", 1)[1].rstrip(")\n ") for line in source.splitlines() if "_add_signal" in line
    }
    assert handlers == {"handle_sig", "handle_sig_wait_for_completion"}
    assert parameters(arq.worker.Worker.handle_sig) == ["self", "signum"]
    assert parameters(arq.worker.Worker.handle_sig_wait_for_completion) == ["self", "signum"]


def test_a_heartbeat_is_health_then_cron() -> None:
    calls = names_called(arq.worker.Worker.heart_beat)
    assert [call for call in calls if call.startswith("self.")] == ["self.record_health", "self.run_cron"]
    assert parameters(arq.worker.Worker.run_cron) == ["self", "n", "delay", "num_windows"]
    used = {"self.pool.enqueue_job", "cron_job.calculate_next"}
    assert used <= set(names_called(arq.worker.Worker.run_cron))
    assert "f'{cron_job.name}:{to_unix_ms(cron_job.next_run)}'" in inspect.getsource(
        arq.worker.Worker.run_cron
    )


def test_health_reads_the_counters_that_ours_fills() -> None:
    source = inspect.getsource(arq.worker.Worker.record_health)
    for counter in ("jobs_complete", "jobs_failed", "jobs_retried", "self.tasks.values()"):
        assert counter in source


def test_enqueue_job_takes_what_ours_takes() -> None:
    theirs = inspect.signature(arq.connections.ArqRedis.enqueue_job)
    ours = inspect.signature(LedgerRedis.enqueue_job)
    assert list(ours.parameters) == list(theirs.parameters)
    assert [p.default for p in ours.parameters.values()] == [p.default for p in theirs.parameters.values()]


def test_a_job_is_asked_what_ours_answers() -> None:
    for name in ("result", "info", "result_info", "status", "abort"):
        assert parameters(getattr(LedgerJob, name)) == parameters(getattr(arq.jobs.Job, name))
    assert {status.name for status in arq.jobs.JobStatus} == {
        "deferred",
        "queued",
        "in_progress",
        "complete",
        "not_found",
    }


def test_retry_tells_its_delay_in_milliseconds() -> None:
    assert arq.Retry(defer=1.5).defer_score == 1_500
    assert arq.Retry().defer_score is None


def test_a_settings_class_is_read_by_its_own_attributes() -> None:
    class Base:
        max_jobs = 3

    class Settings(Base):
        functions = ()
        unrelated = 1

    get_kwargs: Any = arq.worker.get_kwargs
    assert get_kwargs(Settings) == {"functions": ()}
    assert get_kwargs({"max_jobs": 2, "other": 1}) == {"max_jobs": 2}


def test_redis_settings_say_where_redis_is() -> None:
    settings = {field.name for field in fields(arq.connections.RedisSettings)}
    assert {
        "host",
        "port",
        "unix_socket_path",
        "database",
        "username",
        "password",
        "ssl",
        "conn_timeout",
        "max_connections",
        "sentinel_master",
    } <= settings
