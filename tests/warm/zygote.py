"""A process that has loaded what a rank loads, and done nothing with it: `python -m tests.warm.zygote SOCKET`.

On request it forks a driver, which forks its ranks in turn. They begin where a fresh interpreter has finished importing, and
are in everything else what a user's command starts: processes, process groups, signals, gloo, DeepSpeed.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import sys
import warnings
import weakref
from contextlib import suppress

from tests.warm.process import die_with_parent

# Read when a library is imported. A rank's own number of threads is set after the fork, see tests/warm/rank.py.
AT_IMPORT = {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
LIBRARIES = (
    "accelerate", "datasets", "deepspeed", "deepspeed.runtime.zero.muon.muon_optimizer", "peft", "scipy.stats",
    "sklearn.metrics", "torch.distributed", "transformers.integrations.deepspeed",
    "transformers.models.llama.modeling_llama", "trl", "trl.trainer.sft_trainer", "trl.trainer.dpo_trainer", "wandb",
    "wandb.apis.public", "wandb.sdk.launch.inputs.internal",
)  # fmt: skip


def load() -> None:
    """Import everything; no tensor, no thread, no random number."""
    os.environ.update(AT_IMPORT)
    warnings.filterwarnings("ignore", category=FutureWarning)
    for name in LIBRARIES:
        importlib.import_module(name)
    for package in ("trainer", "launchers"):
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            importlib.import_module(module.name)
    for finalizer in weakref.finalize._registry:
        finalizer.atexit = False  # no child may remove, when it ends, a temporary directory that all of them have


def serve(listening: socket.socket) -> None:
    """Fork a driver for every connection: it reads its request there, and leaves its exit status there."""
    from tests.warm.driver import drive

    while True:
        connection, _ = listening.accept()
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        if os.fork() == 0:
            listening.close()
            with connection.makefile("r") as request:
                drive(json.loads(request.readline()), connection)
        connection.close()


if __name__ == "__main__":
    die_with_parent(signal.SIGKILL)
    with socket.socket(socket.AF_UNIX) as place:
        place.bind(sys.argv[1])
        place.listen()
        load()
        gc.collect()
        gc.freeze()
        serve(place)
