"""Score models that are there already, without training anything:

  python -m trainer.evaluate model=/models/a-chat-model judge=refusal evaluation=prompts evaluation.attacks.x=harmbench.csv

The model is a directory, a hub name, or one of conf/model. method.models.NAME=... compares others with it: models, LoRA
adapters, aligners, dsa runs and safety genes; method.endpoints.NAME.url=... a model behind a server.

It is a run like others: `python -m trainer experiment=evaluate` with the same overrides. What a model answers is kept by its
content, so that no other run asks it again.
"""

from __future__ import annotations

import argparse
import sys
from importlib.resources import files

from trainer.__main__ import main as start
from trainer.terminal import prepare

_MODEL = "model="


def overrides(arguments: list[str]) -> list[str]:
    """Those of `python -m trainer`: a model that is none of the group's is a path."""
    known = {entry.name.removesuffix(".yaml") for entry in (files("trainer.conf") / "model").iterdir()}
    return [
        f"model.path={argument.removeprefix(_MODEL)}"
        if argument.startswith(_MODEL) and argument.removeprefix(_MODEL) not in known
        else argument
        for argument in arguments
    ]


def main(arguments: list[str]) -> int:
    """Run the command. Returns the exit status, see `trainer/errors.py`."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as of python -m trainer")
    given = parser.parse_args(arguments).overrides
    return start(["experiment=evaluate", *overrides(given)])


if __name__ == "__main__":
    prepare()
    sys.exit(main(sys.argv[1:]))
