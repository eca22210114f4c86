"""The errors a user may see. Each is also a standard type, so `except ValueError` keeps working.

`EXIT_CODES` maps them to the process exit status: a scheduler must be able to tell a mistake in the
config (never worth a second try) from a failure.
"""

from __future__ import annotations

from collections.abc import Sequence


class KeelError(Exception):
    """Base of every error this project raises on purpose; its text is meant for the user."""

    exit_code = 1


class ConfigError(KeelError, ValueError):
    """The configuration cannot work. Carries every problem found, not only the first."""

    exit_code = 2

    def __init__(self, problems: str | Sequence[str]):
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class DataError(KeelError, ValueError):
    """A data file or dataset is not what it should be."""

    exit_code = 2


class ArtifactError(KeelError, RuntimeError):
    """A model or stage directory is missing, incomplete, damaged, or belongs to another config."""

    exit_code = 2


class StageFailed(KeelError, RuntimeError):
    """A process of a stage died or raised; the text says which rank and why."""

    exit_code = 1
