"""The pages in docs/ that repeat what the code says, held equal to it."""

import re
from pathlib import Path

from ferryman.core.status import STATS_OUTCOMES, TRANSITIONS, Action

TESTS = Path(__file__).resolve().parents[1]
DOCS = TESTS.parent / "docs"


def test_the_page_of_states_is_the_transition_table() -> None:
    documented = {}
    for line in (DOCS / "states.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and cells[0] in set(Action):
            documented[cells[0]] = (_statuses(cells[1]), _statuses(cells[2]), cells[4])
    in_code = {
        str(action): (
            {before and str(before) for before, _ in pairs},
            {after and str(after) for _, after in pairs},
            STATS_OUTCOMES.get(action, "–"),
        )
        for action, pairs in TRANSITIONS.items()
    }
    assert documented == in_code


def _statuses(cell: str) -> set[str | None]:
    return {None if word == "–" else word for word in cell.split(", ")}


def test_every_promise_of_trust_names_a_test_that_exists() -> None:
    promised = re.findall(r"`((?:unit|integration)/\w+\.py)::(\w+)`", (DOCS / "trust.md").read_text())
    assert len(promised) > 40
    for file, name in promised:
        assert re.search(rf"^(async )?def {name}\(", (TESTS / file).read_text(), re.M), (file, name)
