"""What a doctor finds: good, worth a thought, or wrong, with what to do next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from ferryman.cli.terminal import harmless

Severity = Literal["good", "warning", "problem"]

MARKS: Final[dict[Severity, str]] = {"good": "✓", "warning": "!", "problem": "✗"}
_SUBJECT_WIDTH: Final = 14


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    severity: Severity
    text: str
    remedy: str = ""

    def line(self) -> str:
        """For a terminal."""
        advice = f"      → {self.remedy}" if self.remedy else ""
        return harmless(f"  {MARKS[self.severity]} {self.subject:<{_SUBJECT_WIDTH}} {self.text}{advice}")

    def document(self) -> dict[str, Any]:
        """For a script."""
        return {
            "subject": self.subject,
            "severity": self.severity,
            "text": self.text,
            "remedy": self.remedy or None,
        }


def good(subject: str, text: str) -> Finding:
    """As it should be."""
    return Finding(subject, "good", text)


def warning(subject: str, text: str, remedy: str = "") -> Finding:
    """It works, but somebody should look."""
    return Finding(subject, "warning", text, remedy)


def problem(subject: str, text: str, remedy: str = "") -> Finding:
    """It does not work."""
    return Finding(subject, "problem", text, remedy)
