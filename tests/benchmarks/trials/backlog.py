"""What a large backlog costs: claims, submissions and lists beside an empty system; memory; fairness."""

from __future__ import annotations

EMPTY, FULL = "empty system", "large backlog"
FERRYMAN = "Ferryman"
WATCHED = ("submit", "list", "claim")
TRIALS = ()
