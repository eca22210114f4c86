"""The journal of a sweep: one line of JSON each time a run of it is started or ends."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from trainer.errors import ArtifactError


@dataclass(frozen=True)
class Entry:
    """Attributes: point, run_dir, overrides: which run; job: its Slurm job, `12_3` in an array; state: what happened."""

    point: str
    run_dir: str
    overrides: list[str]
    state: str
    job: str | None = None
    time: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))


class Journal:
    """Only ever appended to; of several lines on a point the last one holds."""

    def __init__(self, path: Path):
        self.path = path

    def append(self, entry: Entry) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(entry)) + "\n")

    def entries(self) -> dict[str, Entry]:
        """point -> the last entry on it, in the order in which the points first came.

        Raises:
            ArtifactError: a line is damaged.
        """
        found: dict[str, Entry] = {}
        lines = self.path.read_text(errors="replace").splitlines() if self.path.exists() else []
        for number, line in enumerate(lines, start=1):
            try:
                entry = Entry(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise ArtifactError(
                    f"{self.path}, line {number} is damaged ({error}); delete that line: the runs themselves are not touched."
                ) from error
            found[entry.point] = entry
        return found
