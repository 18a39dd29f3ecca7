"""Dead letters: list, read, requeue, discard."""

from __future__ import annotations

from typing import Final

from ferryman.api.bodies import QueryReader
from ferryman.api.cursors import encode_cursor, read_cursor
from ferryman.api.exchange import Answer, Exchange
from ferryman.api.routing import Example, Route
from ferryman.api.schemas import LettersQuery, given
from ferryman.api.services import Services
from ferryman.api.views import ClosedLetterView, LettersView, LetterView, letter_view
from ferryman.auth.policy import Call
from ferryman.ports import LetterFilter

_LETTERS: Final = "dead-letters"


async def list_letters(services: Services, exchange: Exchange) -> Answer:
    query: LettersQuery = exchange.query
    wanted = LetterFilter(
        queue=given(query.queue),
        type=given(query.type),
        error_classes=tuple(query.error_class),
        fingerprint=given(query.fingerprint),
        status=None if query.status == "any" else query.status,
        older_than_ms=given(query.older_than_ms),
        newer_than_ms=given(query.newer_than_ms),
    )
    after = read_cursor(_LETTERS, query.cursor)
    page = await services.lookup.letters(exchange.asker, wanted, limit=query.limit, after=after)
    next_cursor = encode_cursor(_LETTERS, page.next_after) if page.next_after else None
    return Answer(200, LettersView([letter_view(one, is_listed=True) for one in page.rows], next_cursor))


async def get_letter(services: Services, exchange: Exchange) -> Answer:
    letter_id = exchange.id("deadLetterId", "dead letter")
    return Answer(200, letter_view(await services.lookup.letter(exchange.asker, letter_id)))


async def requeue(services: Services, exchange: Exchange) -> Answer:
    letter_id = exchange.id("deadLetterId", "dead letter")
    await services.changes.requeue(exchange.asker, letter_id)
    return Answer(202, ClosedLetterView(str(letter_id), "requeued"))


async def discard(services: Services, exchange: Exchange) -> Answer:
    letter_id = exchange.id("deadLetterId", "dead letter")
    await services.changes.discard(exchange.asker, letter_id)
    return Answer(200, ClosedLetterView(str(letter_id), "discarded"))


ROUTES: Final = (
    Route(
        method="GET",
        path="/api/dead-letters",
        name="listDeadLetters",
        summary="List dead letters, newest first",
        details="Those that are `dead`, unless `status` asks otherwise.",
        tag="dead letters",
        call=Call.LETTER_READ,
        handle=list_letters,
        query=QueryReader(LettersQuery),
        answers={200: (LettersView, "One page")},
        problems=("invalid_cursor", "query_too_expensive"),
        examples=(Example(query="queue=default&status=any"),),
    ),
    Route(
        method="GET",
        path="/api/dead-letters/{deadLetterId}",
        name="getDeadLetter",
        summary="Read a dead letter with every attempt",
        tag="dead letters",
        call=Call.LETTER_READ,
        handle=get_letter,
        answers={200: (LetterView, "The dead letter")},
        problems=("not_found",),
    ),
    Route(
        method="POST",
        path="/api/dead-letters/{deadLetterId}/requeue",
        name="requeueDeadLetter",
        summary="Give the job of a dead letter another life",
        tag="dead letters",
        call=Call.LETTER_REQUEUE,
        handle=requeue,
        answers={202: (ClosedLetterView, "The job is ready to run")},
        problems=("not_found", "not_dead", "twin_unfinished", "unknown_queue"),
        headers=("X-Override-Reason",),
    ),
    Route(
        method="DELETE",
        path="/api/dead-letters/{deadLetterId}",
        name="discardDeadLetter",
        summary="Close a dead letter for good",
        details="It can still be read, with the status `discarded`.",
        tag="dead letters",
        call=Call.LETTER_DISCARD,
        handle=discard,
        answers={200: (ClosedLetterView, "The dead letter is closed")},
        problems=("not_found", "not_dead"),
        headers=("X-Override-Reason",),
    ),
)
