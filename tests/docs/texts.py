"""What is documented: every command in the pages, help texts, docstrings and comments, with the place where it stands."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

EVERY_PAGE = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")), ROOT / "benchmarks" / "README.md"]
PAGES = [page for page in EVERY_PAGE if page.name != "adding.md"]  # whose examples tests/test_adding.py follows in a copy
SOURCES = [
    path for folder in ("trainer", "launchers", "hydra_plugins", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))
]
COMMENTED = [*sorted((ROOT / "conf").rglob("*.yaml")), *sorted((ROOT / "slurm").glob("*.sbatch"))]

# What a command in running text begins with; in a block of bash every line is a command.
PROGRAMS = {"python", "make", "sbatch", "salloc", "scancel", "scontrol", "squeue", "tail", "env", "bash", "wandb", "ulimit"}
_ASSIGNMENT = re.compile(r"^[A-Z_][A-Z0-9_]*=\S*$")
_INLINE = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
_SPOKEN = re.compile(rf"(?:^|: +)((?:{'|'.join(sorted(PROGRAMS))}) [^`]*)$")  # to the end of a line of a comment or a help text


@dataclass(frozen=True)
class Command:
    """where: file and line. shown: what the text shows as its output."""

    where: str
    text: str
    shown: str = ""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    where: str
    language: str
    lines: list[str]


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def is_command(text: str) -> bool:
    """Whether an inline piece of code is a whole command rather than the name of a program."""
    words = text.split()
    while words and _ASSIGNMENT.match(words[0]):
        words = words[1:]
    return len(words) > 1 and words[0] in PROGRAMS


def blocks(path: Path) -> Iterator[Block]:
    lines, start, language = path.read_text().splitlines(), None, ""
    for number, line in enumerate(lines, start=1):
        if not line.startswith("```"):
            continue
        if start is None:
            start, language = number, line.removeprefix("```")
        else:
            yield Block(place(path, start), language, lines[start : number - 1])
            start = None
    assert start is None, f"{place(path, start or 0)}: this block has no end"


def inline_code(path: Path) -> Iterator[tuple[str, str]]:
    """Where it stands, and the code, of every inline piece of code of a page."""
    text = re.sub(r"^```.*?^```", lambda block: "\n" * block[0].count("\n"), path.read_text(), flags=re.M | re.S)
    for found in _INLINE.finditer(text):
        yield place(path, text[: found.start()].count("\n") + 1), " ".join(found[1].split())


def of_page(path: Path) -> Iterator[Command]:
    for block in blocks(path):
        joined = "\n".join(block.lines).replace("\\\n", " ")
        if block.language == "bash":
            for line in joined.splitlines():
                if line.strip() and not line.startswith("#"):
                    yield Command(block.where, line)
        elif not block.language and "$ " in joined:
            for part in re.split(r"^\$ ", joined, flags=re.M)[1:]:
                command, _, shown = part.partition("\n")
                yield Command(block.where, command, shown)
    for where, code in inline_code(path):
        if is_command(code):
            yield Command(where, code)


def of_text(where: str, text: str) -> Iterator[Command]:
    """Of a docstring or a help text: lines that are commands, and inline code."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("usage:"):  # argparse's own
            continue
        if found := _SPOKEN.search(line.strip()):
            yield Command(where, re.split(r"\s{3,}(?![-\[])", found[1])[0])
        elif _ASSIGNMENT.match(line.split(maxsplit=1)[0] if line.strip() else "") and is_command(line):
            yield Command(where, line.strip())
    for found in _INLINE.finditer(text):
        if is_command(found[1]):
            yield Command(where, " ".join(found[1].split()))


def of_docstrings(path: Path) -> Iterator[Command]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, documented) and (text := ast.get_docstring(node)):
            yield from of_text(place(path, getattr(node, "lineno", 1)), text)


def comments(path: Path) -> Iterator[tuple[int, str]]:
    """The line and the text of every comment of a YAML file or shell script."""
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if found := re.search(r"(?:^|\s)#(?!!|SBATCH) ?(.*)$", line):
            yield number, found[1]


def of_comments(path: Path) -> Iterator[Command]:
    for number, text in comments(path):
        yield from of_text(place(path, number), text)


def all_commands() -> list[Command]:
    """Those of pages, docstrings and comments. What a program prints as its help is read where it is printed."""
    found = [command for path in PAGES for command in of_page(path)]
    found += [command for path in SOURCES for command in of_docstrings(path)]
    return found + [command for path in COMMENTED for command in of_comments(path)]


def variants(text: str) -> list[str]:
    """The single commands of one line: without its optional parts `[...]` and with them, and those around `&&`."""
    text = re.sub(r"\s#\s.*$", "", text)
    optional = re.compile(r"(?<=\s)\[([^\]]*)\]")
    text = " ".join(text.split()) if "'" not in text else text
    both = dict.fromkeys((optional.sub("", text), optional.sub(r"\1", text)))
    return [part.strip() for one in both for part in one.split("&&")]
