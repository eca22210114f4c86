"""Which folder may import which. A new edge is a decision: it fails here until it is written down."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.conftest import ROOT

# Every file may import these; they import nothing but one another.
GROUND = {
    "trainer.errors", "trainer.suggest", "trainer.record", "trainer.dotted", "trainer.stopping", "trainer.items",
    "trainer.vocabulary", "trainer.terminal", "trainer.children",
}  # fmt: skip
# Room -> what it may import besides. Only rooms above it in this list may import a room.
ROOMS: dict[str, set[str]] = {
    "trainer.config": set(),
    "trainer.checkpoints": set(),
    "trainer.compose": set(),
    "trainer.ending": set(),
    "trainer.cosa": set(),
    "trainer.data": {"trainer.config"},
    "trainer.data.formats": {"trainer.config", "trainer.cosa", "trainer.data"},
    "trainer.pipeline": {"trainer.checkpoints", "trainer.config"},
    "trainer.models": {"trainer.config", "trainer.pipeline"},
    "trainer.tracking": {"trainer.config", "trainer.pipeline"},
    "trainer.training.callbacks": {"trainer.checkpoints", "trainer.config", "trainer.pipeline", "trainer.tracking"},
    "trainer.training": {
        "trainer.checkpoints", "trainer.config", "trainer.models", "trainer.pipeline", "trainer.tracking",
        "trainer.training.callbacks",
    },
    "trainer.results": {"trainer.config", "trainer.pipeline"},
    "trainer.ledger": {"trainer.config", "trainer.ending", "trainer.pipeline", "trainer.results"},
    "trainer.evaluation": {
        "trainer.config", "trainer.cosa", "trainer.ledger", "trainer.models", "trainer.pipeline", "trainer.tracking",
    },
    "trainer.evaluation.judges": {"trainer.config", "trainer.cosa", "trainer.evaluation", "trainer.models", "trainer.pipeline"},
    "trainer.evaluation.suites": {"trainer.config", "trainer.cosa", "trainer.data", "trainer.evaluation"},
    "trainer.evaluation.suites.lm_eval": {"trainer.config", "trainer.evaluation", "trainer.pipeline"},
    "trainer.evaluation.suites.drift": {
        "trainer.config", "trainer.data", "trainer.data.formats", "trainer.evaluation", "trainer.pipeline",
    },
    "trainer.sandbox": {"trainer.config", "trainer.cosa", "trainer.data", "trainer.data.formats", "trainer.evaluation"},
    "launchers": {"trainer.config"},
}  # fmt: skip
# A launcher's own folder may import these, and no other launcher's.
FOR_LAUNCHERS = {"launchers", "trainer.config"}
# A method may import all of these, and other methods that ROOMS_OF_METHODS names.
FOR_METHODS = {
    "trainer.config", "trainer.cosa", "trainer.data", "trainer.data.formats", "trainer.evaluation", "trainer.models",
    "trainer.pipeline", "trainer.tracking", "trainer.training",
}  # fmt: skip
SHARED_METHODS = {"trainer.methods.pairs", "trainer.methods.dpo", "trainer.methods.sft"}
BY_METHOD = {
    "trainer.methods.safegene": {"trainer.methods.dsa"},  # its gene may be gated by a guardrail
    "trainer.methods.untrained": {"trainer.methods.dsa", "trainer.methods.safegene"},  # what they leave can be evaluated
}
# What knows the kinds, and the commands: nothing below imports them.
TOP = (
    "trainer.kinds", "trainer.keys", "trainer.compare", "trainer.doctor", "trainer.rank", "trainer.worker", "trainer.job",
    "trainer.plan", "trainer.fetch", "trainer.sweep", "trainer.chat", "trainer.gene", "hydra_plugins.keel", "trainer.__main__",
    "trainer.reproduce", "trainer.evaluate",
)  # fmt: skip


def _room(name: str) -> str | None:
    """The folder, or the file directly below `trainer`, that a dotted name is in; None for what is not ours."""
    parts = name.split(".")
    if parts[0] not in ("trainer", "launchers", "hydra_plugins") or parts[:2] == ["trainer", "conf"]:
        return None
    folders = [parts[0]]
    while len(folders) < len(parts) and (ROOT / Path(*folders) / parts[len(folders)]).is_dir():
        folders.append(parts[len(folders)])
    return ".".join(parts[:2]) if folders == ["trainer"] else ".".join(folders)


@cache
def _edges() -> tuple[tuple[str, str, str], ...]:
    """(room, room that it imports, file) of every import, those for type checking alone included."""
    return tuple(_found())


def _found() -> Iterator[tuple[str, str, str]]:
    for top in ("trainer", "launchers", "hydra_plugins"):
        for path in sorted((ROOT / top).rglob("*.py")):
            own = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.module:
                    names = [f"{node.module}.{alias.name}" for alias in node.names]
                for name in names:
                    here, there = _room(own), _room(name)
                    if here is not None and there is not None and here != there and here != "trainer.__init__":
                        yield here, there, str(path.relative_to(ROOT))


def _allowed(room: str) -> set[str]:
    if room in GROUND:
        return GROUND
    if room in ROOMS:
        return GROUND | ROOMS[room]
    if room.startswith("trainer.methods."):
        return GROUND | FOR_METHODS | SHARED_METHODS | BY_METHOD.get(room, set())
    if room.startswith("launchers."):
        return GROUND | FOR_LAUNCHERS
    below = set(TOP[: TOP.index(room)])
    kinds = {r for r, _, _ in _edges() if r.startswith(("trainer.methods.", "launchers."))}
    return GROUND | set(ROOMS) | kinds | below


def test_every_import_goes_in_an_allowed_direction() -> None:
    wrong = sorted({f"{file}: {here} imports {there}" for here, there, file in _edges() if there not in _allowed(here)})
    assert not wrong, "\n".join(wrong)


def test_no_two_rooms_import_each_other_and_there_is_no_longer_circle() -> None:
    imports: dict[str, set[str]] = {}
    for here, there, _ in _edges():
        imports.setdefault(here, set()).add(there)
    order: list[str] = []

    def visit(room: str, path: tuple[str, ...]) -> None:
        assert room not in path, " -> ".join((*path, room))
        if room not in order:
            for other in sorted(imports.get(room, ())):
                visit(other, (*path, room))
            order.append(room)

    for room in sorted(imports):
        visit(room, ())


def test_what_slurm_calls_things_stands_in_its_own_room() -> None:
    others = [path for path in (ROOT / "trainer").rglob("*.py") if path.name != "kinds.py"]
    for path in others:
        text = path.read_text()
        assert "SLURM" not in text and "launchers.slurm" not in text, path


def test_only_kinds_lists_the_kinds() -> None:
    """No file outside a method's own folder imports it, but for what other methods share and the list of all."""
    allowed = {"trainer/kinds.py", "trainer/chat.py", "trainer/gene.py"}  # commands that show what a method left
    for here, there, file in _edges():
        if there.startswith("trainer.methods.") and there not in SHARED_METHODS and here != there:
            assert file in allowed or there in BY_METHOD.get(here, ()), f"{file} imports {there}"
