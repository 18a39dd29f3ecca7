"""Bounds by id: they spare work and must never hide a row."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from ferryman.core.ids import uuid7
from ferryman.ledger.instants import rfc3339
from ferryman.ledger.lookup import FIRST_ID, LAST_ID, id_bounds

instants = st.datetimes(
    min_value=datetime(1969, 12, 1), max_value=datetime(9999, 12, 30), timezones=st.just(UTC)
)


def made(at: datetime, wrong_by: timedelta) -> UUID:
    """The id of a job that was created then, by a process whose clock is wrong."""
    return uuid7(max(0, int((at + wrong_by).timestamp() * 1000)), b"\xff" * 10)


@given(
    created=st.datetimes(datetime(1970, 1, 3), datetime(9000, 1, 1), timezones=st.just(UTC)),
    after=st.none() | instants,
    before=st.none() | instants,
    wrong_by=st.timedeltas(timedelta(hours=-23), timedelta(hours=23)),
)
def test_what_matches_lies_within_the_bounds(
    created: datetime, after: datetime | None, before: datetime | None, wrong_by: timedelta
) -> None:
    newest, oldest = id_bounds(after, before)
    matches = (after is None or created >= after) and (before is None or created < before)
    if matches:
        assert oldest <= made(created, wrong_by) < newest


def test_no_bounds_are_open() -> None:
    assert id_bounds(None, None) == (LAST_ID, FIRST_ID)


def test_instants_have_milliseconds_and_a_z() -> None:
    at = datetime(2026, 5, 1, 14, 0, 0, 1999, tzinfo=UTC)
    assert rfc3339(at) == "2026-05-01T14:00:00.001Z"
    assert rfc3339(None) is None
