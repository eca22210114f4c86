"""Slurm's commands, as far as a command line can be told right from wrong without a cluster: what they get is written down.

`sbatch` looks at the script's syntax; of a script that the reader submits by hand, and of what `salloc` is given, the rest is
run at once, in an allocation of the size that was asked for, where `python` only writes down how it was called.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

JOB = "7"
SIZES = {
    "--nodes": "SLURM_JOB_NUM_NODES",
    "--ntasks-per-node": "SLURM_NTASKS_PER_NODE",
    "--gpus-per-node": "SLURM_GPUS_ON_NODE",
}
OPTIONS = {
    "sbatch": {*SIZES, "--parsable", "--dependency", "--kill-on-invalid-dep"},
    "salloc": {*SIZES},
    "scancel": {"--signal"},
    "squeue": {"--me", "--noheader", "--array", "--format", "--jobs"},
    "scontrol": set(),
}
SUBCOMMANDS = (["requeue"], ["show", "job"])


def allocate(options: list[str], command: list[str]) -> int:
    given = dict(option.split("=", 1) for option in options if "=" in option)
    sizes = {SIZES[name]: value for name, value in given.items() if name in SIZES}
    return subprocess.run(command, env={**os.environ, "SLURM_JOB_ID": JOB, **sizes}, check=False).returncode


def sbatch(options: list[str], command: list[str]) -> int:
    script = Path(command[0])
    subprocess.run(["bash", "-n", str(script)], check=True)
    if "--parsable" not in options:
        return allocate(options, ["bash", *command])
    if "trainer.doctor.job" in script.read_text():
        (script.parent / "findings.json").write_text("[]")  # the job found nothing wrong
    print(JOB)
    return 0


def main(program: str, arguments: list[str]) -> int:
    called = {
        "program": program,
        "arguments": arguments,
        "slurm": {k: v for k, v in os.environ.items() if k.startswith("SLURM_")},
    }
    with Path(os.environ["FAKE_SLURM_CALLS"]).open("a") as file:
        file.write(json.dumps(called) + "\n")
    if program == "python":
        return 0
    count = next((place for place, argument in enumerate(arguments) if not argument.startswith("--")), len(arguments))
    options, rest = arguments[:count], arguments[count:]
    if unknown := {option.partition("=")[0] for option in options} - OPTIONS[program]:
        print(f"{program}: unrecognized option {', '.join(unknown)}", file=sys.stderr)
        return 1
    if program == "sbatch":
        return sbatch(options, rest)
    if program == "salloc":
        return allocate(options, rest)
    if program == "scontrol" and not any(rest[:-1] == words for words in SUBCOMMANDS):
        return 1
    return 0 if program == "squeue" or rest[-1:] == [JOB] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
