"""Reading the environment: values, their `_FILE` twins, and what to say when one is wrong."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeVar

from ferryman.settings.variables import ALL, Variable

T = TypeVar("T")

_PREFIX: Final = "FERRYMAN_"
_FILE: Final = "_FILE"
# Kubernetes sets these in every pod beside a Service whose name starts with "ferryman"; FERRYMAN_PORT, too.
_SERVICE_LINK: Final = re.compile(
    r"FERRYMAN_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
_SERVICE_LINK_VALUE: Final = re.compile(r"(tcp|udp|sctp)://[0-9a-fA-F.:\[\]]+:[0-9]+")
_FOR_TESTS: Final = "FERRYMAN_TEST_"


class SettingsError(Exception):
    """A variable is missing or wrong. The message names it; `advice` says, line by line, what helps."""

    def __init__(self, message: str, *advice: str) -> None:
        super().__init__(message)
        self.advice = advice


class Environment:
    """Reads variables out of a mapping like `os.environ`. An empty value counts as none."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def get(self, variable: Variable[T]) -> T | None:
        """The value, read from the variable or from the file that its twin names; None when neither is set.

        Raises SettingsError.
        """
        text, source = self._text(variable)
        if not text:
            return None
        try:
            return variable.read(text)
        except ValueError as error:
            raise _wrong(variable, source, text, str(error)) from None

    def require(self, variable: Variable[T]) -> T:
        """The value. Raises SettingsError when it is not set, too."""
        value = self.get(variable)
        if value is None:
            raise missing(variable)
        return value

    def is_set(self, variable: Variable[T]) -> bool:
        """Whether there is a value, right or wrong, in the variable or its twin."""
        return bool(self._direct(variable) or self._values.get(variable.name + _FILE))

    def is_from_file(self, variable: Variable[T]) -> bool:
        """Whether the value comes from a file."""
        return bool(self._values.get(variable.name + _FILE))

    def unknown(self) -> list[tuple[str, str | None]]:
        """FERRYMAN_* names that mean nothing, each with the known name that it may be meant for."""
        known = {name for variable in ALL for name in (variable.name, variable.name + _FILE)}
        strangers = [
            name
            for name in sorted(self._values)
            if name.startswith(_PREFIX)
            and name not in known
            and not name.startswith(_FOR_TESTS)
            and not _SERVICE_LINK.fullmatch(name)
        ]
        return [(name, _nearest(name, known)) for name in strangers]

    def _text(self, variable: Variable[T]) -> tuple[str, str]:
        """The text and the name of the variable that it came by."""
        direct, twin = self._direct(variable), variable.name + _FILE
        path = self._values.get(twin, "")
        if direct and path:
            raise SettingsError(f"{variable.name} and {twin} are both set", "Unset one of them.")
        return (_content(twin, path), twin) if path else (direct, variable.name)

    def _direct(self, variable: Variable[T]) -> str:
        value = self._values.get(variable.name, "")
        is_link = _SERVICE_LINK.fullmatch(variable.name) and _SERVICE_LINK_VALUE.fullmatch(value)
        return "" if is_link else value


def missing(variable: Variable[T]) -> SettingsError:
    """What to say of a variable that must be set and is not."""
    takes = f"It takes {variable.takes}. {variable.name}{_FILE} reads it from a file."
    return SettingsError(f"{variable.name} is not set", takes, *([variable.hint] if variable.hint else []))


def _wrong(variable: Variable[T], source: str, text: str, why: str) -> SettingsError:
    came = f"{len(text)} characters that are not shown" if variable.secret else repr(text[:80])
    reason = f": {why}" if why else ""
    return SettingsError(f"{source} is wrong{reason}", f"It takes {variable.takes}; it got {came}.")


def _content(twin: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(
            f"{twin} is wrong: {path!r} cannot be read ({why})", "It takes the path of a file."
        ) from None


def _nearest(name: str, known: set[str]) -> str | None:
    # Without the prefix, which would make any two names alike.
    words = sorted(one.removeprefix(_PREFIX) for one in known)
    close = difflib.get_close_matches(name.removeprefix(_PREFIX), words, n=1, cutoff=0.7)
    return _PREFIX + close[0] if close else None
