"""Settings out of the environment: the only place that reads it.

A wrong or missing value raises SettingsError with the variable's name, what it takes and what came, but
never a secret. Every variable has a `_FILE` twin.
"""

import os
from collections.abc import MutableMapping

from ferryman.settings.environment import Environment, SettingsError


def this_environment() -> Environment:
    """The environment of this process."""
    return Environment(os.environ)


def environment_for_children() -> MutableMapping[str, str]:
    """A copy of this process's whole environment, to be handed on."""
    return dict(os.environ)


def terminal_is_dumb() -> bool:
    """Whether the terminal can neither place text nor colour it."""
    return os.environ.get("TERM") == "dumb"


__all__ = ["Environment", "SettingsError", "environment_for_children", "terminal_is_dumb", "this_environment"]
