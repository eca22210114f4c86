"""The errors a user may see. Each is also a standard type, so `except ValueError` keeps working.

The process exit status tells a scheduler what to do next:

    0     done
    1     failed; a second try may fail in the same way
    2     a mistake in the config, the data or an artifact: never worth a second try
    75    stopped by a signal, state saved: start again to continue (EX_TEMPFAIL)
    130   stopped from the keyboard
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


class RankLost(StageFailed):
    """A rank was killed, did not answer, or ended without a word, its node perhaps with it: a second try may do better."""


class Interrupted(KeelError, RuntimeError):
    """A signal asked the run to stop, and it did so in good order: the same command continues."""

    exit_code = 75


class DiskFull(StageFailed, OSError):
    """The next checkpoint does not fit; nothing was written."""


class BadLoss(StageFailed, ArithmeticError):
    """A loss, a gradient or the weights themselves are not finite, or a loss exploded, and going on is not the policy."""
