"""Whose a checkpoint is. Optimiser states are pickles: only torch's restricted unpickler keeps them from running code."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from trainer.errors import ArtifactError
from trainer.record import owner_of, why_foreign


def refuse_foreign(checkpoint: Path, trusted: Collection[str]) -> None:
    """Look at a checkpoint, all that is in it, and the directory that it stands in.

    Args:
        trusted: users whose files may be loaded although they are not this user's.

    Raises:
        ArtifactError: another user wrote a part of it, or may have.
    """
    for path in (checkpoint.parent, checkpoint, *sorted(checkpoint.rglob("*"))):
        if (why := why_foreign(path)) is not None and owner_of(path) not in trusted:
            raise ArtifactError(
                f"{path}: {why}, and a checkpoint holds pickles, which its author may misuse. If you trust them: "
                f"survival.checkpoints_of=[{owner_of(path)}]; if not, delete {checkpoint.parent} to train anew."
            )
