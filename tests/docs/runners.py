"""How a documented command is run: by its own `main` in this process, up to where it would start ranks or ask a cluster."""

from __future__ import annotations

import io
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from wandb.cli.cli import cli as wandb

from tests.conftest import ROOT
from tests.docs import fake_slurm
from tests.docs.stand_ins import BASE, FILES, filled_in
from tests.fetch.fake_hub import fake_hub
from tests.tracking.fake_wandb import fake_wandb
from trainer.__main__ import main as train
from trainer.chat import main as chat
from trainer.config.load import load_config
from trainer.config.run import RunConfig, to_mapping
from trainer.doctor.__main__ import main as doctor
from trainer.evaluate import main as evaluate
from trainer.fetch.__main__ import config_of as fetch_config
from trainer.fetch.__main__ import main as fetch
from trainer.fetch.wanted import wanted
from trainer.gene import main as gene
from trainer.keys import main as keys
from trainer.methods.dsa.section import DsaMethod
from trainer.methods.untrained.section import UntrainedMethod
from trainer.pipeline.places import RESULTS
from trainer.pipeline.run import claim_directory
from trainer.plan.__main__ import main as plan
from trainer.plan.plan import make_plan
from trainer.record import write_json
from trainer.sweep.__main__ import main as show_sweep
from trainer.tracking.sync import main as sync

SHOWN = Path("/scratch/keel")  # the directory in which the documents run everything
PLENTY = 10**15  # bytes; whether a plan says that it fits must not hang on the disk of this machine
BY_NOBODY = (  # programs start these
    "trainer.job", "trainer.worker", "trainer.doctor.job", "trainer.checkpoints.convert", "launchers.slurm.task",
)  # fmt: skip
_OBJECTIVE = re.compile(r"(\w+)/([\w/]+)")


class Reader:
    """Somebody who types what is documented, in an empty directory with the files that are taken to be there."""

    def __init__(self, cwd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
        self.cwd, self.monkeypatch, self.capsys = cwd, monkeypatch, capsys
        self.started: list[RunConfig] = []  # what would have been carried out
        self.free = PLENTY
        (cwd / "slurm").symlink_to(ROOT / "slurm")
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["python"])
        for module in ("trainer.__main__", "trainer.job", "trainer.sweep.here"):
            monkeypatch.setattr(f"{module}.carry_out", self._carry_out)
        monkeypatch.setattr("trainer.doctor.__main__.examine", lambda config, run_dir: [])
        monkeypatch.setattr("trainer.plan.plan.free_space", lambda run_dir: (SHOWN, self.free))
        self._install_programs()

    def __call__(self, text: str, code: int = 0) -> str:
        """Run one command and return what it printed; fails unless it ends with this status."""
        text = filled_in(text)
        for name, make in FILES.items():
            if re.search(rf"(?<![\w/]){re.escape(name)}(?![\w/])", text) and not (self.cwd / name).exists():
                (self.cwd / name).parent.mkdir(parents=True, exist_ok=True)
                make(self.cwd / name)
        self.capsys.readouterr()
        ended = self.run(shlex.split(text, comments=True))
        printed = "".join(self.capsys.readouterr())
        assert ended == code, f"{text}\nexit {ended}, expected {code}:\n{printed[-4000:]}"
        for config in self.started[:1]:  # the runs of a sweep plan alike
            if not isinstance(config.method, (DsaMethod, UntrainedMethod)):  # of which `plan` knows nothing
                _planned(json.dumps({**to_mapping(config), "run": {"name": "run"}}, sort_keys=True))
        return printed

    def run(self, words: Sequence[str]) -> int:
        while words and re.match(r"^[A-Z_]+=", words[0]):
            words = words[1:]
        program, *rest = words
        if program not in PROGRAMS:
            raise AssertionError(f"{program!r} is documented, and no test knows how to run it: see tests/docs/runners.py")
        return PROGRAMS[program](self, rest)

    def calls(self, program: str) -> list[dict[str, Any]]:
        """What this program was given."""
        path = self.cwd / "calls.jsonl"
        found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [call for call in found if call["program"] == program]

    def _carry_out(self, config: RunConfig, run_dir: Path | None = None, only: str | None = None) -> Path:
        """Instead of training: the number that a search wants stands in the results."""
        directory = run_dir or claim_directory(config)
        models: dict[str, Any] = {}
        if config.run.objective and (wanted := _OBJECTIVE.fullmatch(config.run.objective)):
            models = {wanted[1]: {wanted[2]: {"value": 0.5, "ci95": None}}}
        write_json(directory / RESULTS, {"run": config.run.name, "provenance": {}, "models": models})
        self.started.append(config)
        return directory

    def _install_programs(self) -> None:
        programs = self.cwd / "bin"
        programs.mkdir()
        for name in (*fake_slurm.OPTIONS, "python"):
            script = programs / name
            script.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E {fake_slurm.__file__} {name} "$@"\n')
            script.chmod(0o755)
        self.monkeypatch.setenv("PATH", str(programs), prepend=":")
        self.monkeypatch.setenv("FAKE_SLURM_CALLS", str(self.cwd / "calls.jsonl"))


@cache
def _planned(config: str) -> None:
    """Many commands come to the same config, and a plan makes the sandbox's pairs."""
    make_plan(load_config(json.loads(config)))


def python(reader: Reader, words: list[str]) -> int:
    assert words[0] == "-m", f"python {words[0]} is documented; modules are run by `python -m`"
    name, arguments = words[1], words[2:]
    if "--help" in arguments:
        return help_of(name, reader.monkeypatch)
    if name.startswith("benchmarks."):
        import_module(name).parser().parse_args(arguments)  # run in tests/benchmarks
        return 0
    return MODULES[name](reader, arguments)


def help_of(name: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    return int(ended.value.code or 0)


def trained(reader: Reader, arguments: list[str]) -> int:
    reader.monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)  # an earlier command of this process has set it
    own = [f"hydra.searchpath=[file://{reader.cwd}/conf]"] if "launcher=our_cluster" in arguments else []
    return ended_with(lambda: train([*arguments, *own]))


def evaluated(reader: Reader, arguments: list[str]) -> int:
    reader.monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    reader.monkeypatch.setenv("OPENAI_API_KEY", "x")
    return ended_with(lambda: evaluate(arguments))


def talked(reader: Reader, arguments: list[str]) -> int:
    reader.monkeypatch.setattr("sys.stdin", io.StringIO("what is 2 plus 3 ?\n/quit\n"))
    return chat([*arguments, "--device", "cpu", "--max-new-tokens", "2"])


def brought(reader: Reader, arguments: list[str]) -> int:
    """From a hub that has whatever is asked of it."""
    with fake_hub() as hub:
        for one in wanted(fetch_config(arguments)):
            if one.kind == "models":
                hub.add_folder(f"models/{one.repository}", BASE)
            else:
                hub.add(f"datasets/{one.repository}", {"train.jsonl": b'{"prompt": "say 1", "completion": "1"}\n'})
        reader.monkeypatch.setenv("HF_ENDPOINT", hub.url)
        reader.monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        return fetch(arguments)


def synced(reader: Reader, arguments: list[str]) -> int:
    with fake_wandb() as server:
        reader.monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
        reader.monkeypatch.setattr("trainer.tracking.sync.server_url", lambda: server.url)
        return sync(arguments)


def built(reader: Reader, arguments: list[str]) -> int:
    """An hour: here with no model, so that only the options are read."""
    reader.monkeypatch.setattr(sys, "argv", ["build", *arguments, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("trainer.sandbox.build", run_name="__main__", alter_sys=True)
    return int(ended.value.code or 0)


def ended_with(start: Callable[[], int]) -> int:
    try:
        return start()
    except SystemExit as error:
        return int(error.code or 0)


def by_nobody(name: str) -> Callable[[Reader, list[str]], int]:
    """These are not typed: that they are there is all that can be asked of the text."""
    return lambda reader, arguments: 0 if find_spec(name) and arguments else 1


MODULES: dict[str, Callable[[Reader, list[str]], int]] = {
    "trainer": trained,
    "trainer.plan": lambda reader, arguments: plan(arguments),
    "trainer.fetch": brought,
    "trainer.doctor": lambda reader, arguments: ended_with(lambda: doctor(arguments)),
    "trainer.sweep": lambda reader, arguments: show_sweep(*map(Path, arguments)),
    "trainer.evaluate": evaluated,
    "trainer.chat": talked,
    "trainer.gene": lambda reader, arguments: gene([*arguments, *(("--steps", "1") if "--refusals" in arguments else ())]),
    "trainer.keys": lambda reader, arguments: keys(arguments),
    "trainer.tracking.sync": synced,
    "trainer.sandbox.build": built,
    **{name: by_nobody(name) for name in BY_NOBODY},
}


def make(reader: Reader, words: list[str]) -> int:
    return subprocess.run(["make", "--dry-run", *words], cwd=ROOT, check=False).returncode


def slurms_own(program: str) -> Callable[[Reader, list[str]], int]:
    """Asks the fake Slurm; where `python` came to be started in an allocation, that command is run in one too."""

    def ask(reader: Reader, words: list[str]) -> int:
        ended = subprocess.run([program, *words], check=False).returncode
        for call in reader.calls("python"):
            for name, value in call["slurm"].items():
                reader.monkeypatch.setenv(name, value)
            ended = ended or python(reader, call["arguments"])
        return ended

    return ask


def env(reader: Reader, words: list[str]) -> int:
    assert words[0] == "-u"
    reader.monkeypatch.setenv(words[1], "3")  # so that there is something to unset
    reader.monkeypatch.delenv(words[1])
    return reader.run(words[2:])


def bash(reader: Reader, words: list[str]) -> int:
    """In the shell that salloc gives."""
    return reader.run(["salloc", "--nodes=1", "--ntasks-per-node=2", "bash", *words])


def tail(reader: Reader, words: list[str]) -> int:
    """Of a job's log: the file is the one that a job of this run would write."""
    *options, path = words
    shutil.rmtree(reader.cwd / "runs", ignore_errors=True)
    name = Path(path).parent.name
    assert python(reader, ["-m", "trainer", f"experiment={name}", "launcher=slurm", "launcher.gpus_per_node=2"]) == 0
    (script,) = (Path(call["arguments"][-1]).read_text() for call in reader.calls("sbatch"))
    (log,) = re.findall(r"#SBATCH --output=(.*)", script)
    return 0 if options == ["-F"] and log.replace("%j", fake_slurm.JOB) == str(Path(path).absolute()) else 1


PROGRAMS: dict[str, Callable[[Reader, list[str]], int]] = {
    "python": python,
    "make": make,
    "env": env,
    "bash": bash,
    "tail": tail,
    "wandb": lambda reader, words: 0 if words[0] in wandb.commands else 1,
    "ulimit": lambda reader, words: subprocess.run(["bash", "-c", shlex.join(["ulimit", *words])], check=False).returncode,
    **{program: slurms_own(program) for program in fake_slurm.OPTIONS},
}
