"""Every command that is documented runs: as far as it can without a cluster, a network, a GPU and hours."""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.docs.runners import BY_NOBODY, MODULES, SHOWN, Reader, help_of
from tests.docs.stand_ins import BASE, adapted_run
from tests.docs.texts import COMMENTED, PAGES, SOURCES, Command, all_commands, blocks, of_text, place, variants
from trainer.config.sections import ModelSection
from trainer.models.load import load_model, load_tokenizer

COMMANDS = list({(*variants(command.text), command.shown): command for command in all_commands()}.values())
RUN_ABOVE = {text for command in COMMANDS for text in variants(command.text)}  # what help shows may stand elsewhere too
GIB = 2**30


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Reader:
    for page in PAGES:
        for block in blocks(page):
            if block.language == "yaml":  # its first line says which file it is
                path = tmp_path / block.lines[0].split()[1].rstrip(",")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("\n".join(block.lines))
    return Reader(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("command", COMMANDS, ids=[command.where for command in COMMANDS])
def test_a_documented_command_runs(command: Command, reader: Reader) -> None:
    if free := re.search(r"([\d.]+) GiB free at", command.shown):
        reader.free = int(float(free[1]) * GIB)
    for text in variants(command.text):
        printed = reader(text, code=2 if re.search(r"^\d+ problems?", command.shown, re.M) else 0)
    printed = printed.replace(sys.executable, f"{SHOWN}/.venv/bin/python").replace(str(reader.cwd), str(SHOWN))
    lines = [line.rstrip() for line in printed.splitlines()]
    for line in command.shown.splitlines():
        whole, cut = line.rstrip(), line.rstrip().removesuffix("...")
        assert whole in lines or (whole != cut and any(cut in other for other in lines)), f"it does not print: {line}"


@pytest.mark.parametrize("module", sorted(MODULES.keys() - set(BY_NOBODY)))
def test_what_help_shows_runs(module: str, reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    assert help_of(module, monkeypatch) == 0
    shown = reader.capsys.readouterr().out
    assert len(shown.splitlines()) > 3
    for command in of_text(f"{module} --help", shown):
        for text in variants(command.text):
            if text not in RUN_ABOVE:
                reader(text)


def test_every_program_of_ours_is_known_here() -> None:
    started = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
        for path in SOURCES
        if 'if __name__ == "__main__":' in path.read_text()
    }
    assert {name for name in started if not name.startswith("benchmarks.")} == MODULES.keys()


def test_every_module_that_is_named_after_python_m_is_there() -> None:
    for path in [*PAGES, *SOURCES, *COMMENTED, ROOT / "Makefile"]:
        for name in re.findall(r"python -m ((?:trainer|launchers|benchmarks)[a-z_.]*[a-z_])", path.read_text()):
            assert find_spec(name), f"{place(path, 1)}: python -m {name}"


def test_the_python_that_is_shown_runs(tmp_path: Path) -> None:
    shown = [block for page in PAGES for block in blocks(page) if block.language == "python"]
    assert shown
    adapted_run(tmp_path / "run")
    section = ModelSection(path=str(BASE), dtype="float32")  # type: ignore[call-arg]
    tokenizer = load_tokenizer(section, str(BASE))
    chats = [[{"role": "user", "content": f"what is {number} plus 3 ?"}] for number in (1, 2, 3)]
    prompts = tokenizer.apply_chat_template(
        chats, add_generation_prompt=True, return_dict=True, return_tensors="pt", padding=True
    )
    given = {"run": tmp_path / "run", "base": load_model(section, str(BASE)).eval(), "base_path": str(BASE), "prompts": prompts}
    for block in shown:
        exec(compile("\n".join(block.lines), block.where, "exec"), dict(given))


@pytest.mark.parametrize("language", sorted({block.language for page in PAGES for block in blocks(page)}))
def test_there_is_no_block_of_an_unknown_language(language: str) -> None:
    assert language in ("", "bash", "python", "yaml")


def test_a_wrong_command_fails(reader: Reader) -> None:
    for text, code in (
        ("python -m trainer experiment=cosalign launcher=slurm launcher.nodes=2", 2),
        ("python -m trainer experiment=no_such", 2),
        ("python -m trainer.plan trainer.max_lenght=9", 2),
        ("sbatch --node=2 slurm/train.sbatch experiment=sft", 1),
        ("sbatch --nodes=2 --ntasks-per-node=8 slurm/train.sbatch experiment=sft", 2),
        ("scontrol requeue", 1),
        ("wandb logon", 1),
        ("make demonstration", 2),
    ):
        reader(text, code)
    with pytest.raises(AssertionError, match="no test knows how to run it"):
        reader("curl something")
