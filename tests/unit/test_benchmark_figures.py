"""How the benchmark makes figures of samples."""

import asyncio

import pytest

from tests.benchmarks.goals import Goal
from tests.benchmarks.http_load import Load, Plan, WrongAnswerError
from tests.benchmarks.latencies import percentiles, summary
from tests.benchmarks.measured import Results, Spread, Trial
from tests.benchmarks.payload import PAYLOAD_BYTES, compact, document, key_of
from tests.benchmarks.trials.drain import rate


async def _nothing(_: object) -> dict[str, float]:
    return {}


OURS = Trial("drain", "Ferryman", _nothing)
THEIRS = Trial("drain", "peer", _nothing)


@pytest.mark.parametrize("key", ["", "k", "x" * 40])
def test_every_payload_has_the_same_size_and_keeps_its_key(key: str) -> None:
    assert len(compact(document(key))) == PAYLOAD_BYTES
    assert key_of(document(key)) == key


def test_percentiles_are_values_that_were_measured() -> None:
    assert percentiles([5.0, 1.0, 3.0]) == {"p50_ms": 3.0, "p95_ms": 5.0, "p99_ms": 5.0}
    assert percentiles([]) == {}
    assert summary(10, 2.0, [0.001])["per_second"] == 5.0


def test_a_ratio_compares_neighbours_of_the_same_round() -> None:
    results = Results()
    for number, (mine, other) in enumerate([(100.0, 50.0), (10.0, 10.0), (400.0, 100.0)]):
        results.add(OURS, number, {"per_second": mine})
        results.add(THEIRS, number, {"per_second": other})
    ratio = results.ratio(("drain", "Ferryman", "per_second"), ("drain", "peer", "per_second"))
    assert ratio is not None
    assert ratio.samples == (2.0, 1.0, 4.0)
    assert ratio.median == 2.0


def test_what_was_not_measured_has_no_figure() -> None:
    results = Results()
    results.add(OURS, 0, {"per_second": 1.0})
    goal = Goal("", ("drain", "Ferryman", "per_second"), "≥", 1, theirs=("drain", "peer", "per_second"))
    assert goal.reached(results) is None
    assert results.spread(("drain", "peer", "per_second")) is None


@pytest.mark.parametrize(
    ("relation", "bound", "is_met"),
    [("≥", 2.0, True), ("≥", 2.1, False), ("≤", 2.0, True), ("≤", 1.9, False)],
)
def test_a_goal_is_met_by_the_median(relation: str, bound: float, is_met: bool) -> None:
    goal = Goal("", ("drain", "Ferryman", "per_second"), relation, bound)  # type: ignore[arg-type]
    assert goal.is_met(Spread((1.0, 2.0, 99.0))) is is_met


def test_the_rate_of_a_drain_leaves_out_what_ended_at_its_beginning() -> None:
    assert rate([10.0, 10.0, 11.0, 12.0], 4) == {"jobs": 4, "per_second": 1.0}
    with pytest.raises(AssertionError):
        rate([10.0, 11.0], 3)


class _Server(asyncio.Protocol):
    """Answers every request with the same bytes, in two pieces."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert isinstance(self._transport, asyncio.WriteTransport)
        self._transport.write(self._answer[:20])
        self._transport.write(self._answer[20:])

    def connection_lost(self, error: Exception | None) -> None:
        self._transport.close()


async def _loaded(answer: bytes) -> dict[str, float]:
    server = await asyncio.get_running_loop().create_server(lambda: _Server(answer), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        plan = Plan(port=port, path="/", token="t", body="{}", connections=3, jobs=10, requests=30)
        return await Load(plan).run()


async def test_the_client_counts_every_answer_and_the_jobs_in_it() -> None:
    figures = await _loaded(b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello")
    assert figures["jobs"] == 300
    assert figures["p50_ms"] > 0


async def test_the_client_fails_on_an_answer_of_another_status() -> None:
    with pytest.raises(WrongAnswerError, match="429"):
        await _loaded(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n")
