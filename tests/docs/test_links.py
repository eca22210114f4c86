"""What the pages, comments and help texts point to is there: links, files, and keys of the config."""

from __future__ import annotations

import dataclasses
import re
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from tests.conftest import ROOT
from tests.docs.texts import COMMENTED, EVERY_PAGE, PAGES, comments, inline_code, place
from trainer.config.section import KINDS, OneOf
from trainer.config.training import GLOBAL_BATCH, SECTIONS, config_class
from trainer.kinds import CONFIG

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FOLDERS = ["benchmarks", "conf", "docs", "launchers", "slurm", "tests", "trainer"]
_FILE = re.compile(rf"^(?:{'|'.join(_FOLDERS)})/[\w./-]*$")
_OVERRIDE = re.compile(r"^\+{0,2}((?:hydra/)?[a-z]\w*(?:\.\w+)*)=(\S*)$")
_FREE = ("deepspeed", "hydra")  # sections whose keys are another program's


def anchors(page: Path) -> set[str]:
    """As GitHub makes them from headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", EVERY_PAGE, ids=[str(page.relative_to(ROOT)) for page in EVERY_PAGE])
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in _LINK.findall(page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path) if path else page
        assert linked.exists(), f"{place(page, 1)}: {target}"
        assert not anchor or anchor in anchors(linked), f"{place(page, 1)}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_file_of_ours_that_is_named_is_there(page: Path) -> None:
    for where, code in inline_code(page):
        if _FILE.match(code):
            assert (ROOT / code).exists(), f"{where}: {code}"


@cache
def options(group: str) -> set[str]:
    folder = ROOT / "conf" / group
    return {str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.yaml")}


def classes_of(annotation: Any) -> list[type]:
    """The sections in an annotation: where it leaves a choice between kinds, all of them."""
    for choice in getattr(annotation, "__metadata__", ()):
        if isinstance(choice, OneOf):
            return list(KINDS[choice.group].classes.values())
    own = [annotation] if dataclasses.is_dataclass(annotation) else []
    return own + [cls for part in get_args(annotation) for cls in classes_of(part)]


def in_schema(sections: list[type], keys: list[str]) -> bool:
    """Whether one of these sections has this path of keys."""
    if not keys:
        return True
    for section in sections:
        hints = get_type_hints(section, include_extras=True)
        if keys[0] in hints:
            annotation = hints[keys[0]]
            is_mapping = any(get_origin(one) is dict for one in (annotation, *get_args(annotation)))
            if in_schema(classes_of(annotation), keys[2:] if is_mapping else keys[1:]):
                return True
    return False


def is_known(key: str, value: str) -> bool:
    """Whether `key=value` may stand on the command line: an option of a group, a field of the libraries, a key of ours."""
    head, *rest = key.split(".")
    if not rest and (ROOT / "conf" / key).is_dir():
        return all(option in options(key) for option in value.split(",")) or not re.match(r"^[\w/,]+$", value)
    if head in _FREE:
        return True
    if head == "trainer" or head in SECTIONS:
        fields = {f.name for section in SECTIONS for f in dataclasses.fields(config_class(section))} | {GLOBAL_BATCH}
        return rest[0] in fields
    hints = get_type_hints(CONFIG, include_extras=True)
    if head in hints and get_origin(hints[head]) is dict:
        rest = rest[1:]  # a name
    return head in hints and (not rest or in_schema(classes_of(hints[head]), rest))


def documented_overrides() -> list[tuple[str, str, str]]:
    """Where, key and value of every `key=value` in running text; those in commands are run."""
    words = [(where, code) for page in PAGES for where, code in inline_code(page)]
    for path in COMMENTED:
        for line, text in comments(path):
            words += [(place(path, line), word.strip("`.,;()")) for word in text.split()]
    return [(where, *found.groups()) for where, word in words if (found := _OVERRIDE.match(word))]


def test_every_override_that_is_named_exists() -> None:
    found = documented_overrides()
    assert len(found) > 50
    assert not [f"{where}: {key}={value}" for where, key, value in found if not is_known(key, value)]


def test_an_override_that_does_not_exist_is_noticed() -> None:
    for key, value in (("lancher", "slurm"), ("launcher", "slrum"), ("launcher.node", "2"), ("dpo.bta", "1"), ("seeds", "1")):
        assert not is_known(key, value)
    for key, value in (
        ("data.tests.NAME", "FILE"),
        ("method.aligner.last_layers", "1"),
        ("launcher.stages.evaluate.nodes", "1"),
    ):
        assert is_known(key, value)
