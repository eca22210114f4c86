"""Peak memory of a rank, predicted by `plan` and measured: real runs of stage `sft` on two CPU processes, with
ZeRO 0 to 3 and without DeepSpeed.

    python -m benchmarks.plan_memory             # 5.5 minutes of processor time; ten minutes on two busy cores
    python -m benchmarks.plan_memory --only zero2 zero3
    python -m benchmarks.plan_memory --smoke

Measured is resident memory: its high-water mark from the first training step to the last (Linux's VmHWM), less what
the process held when every library was imported and nothing else was there. Allocations of 64 KiB or more are made by
mmap (MALLOC_MMAP_THRESHOLD_), so that freed memory is returned at once; without that, the figure means little.
Predicted is `trainer.plan` for the same config. The buckets of ZeRO are small here: the defaults, meant for large models,
are larger than this model. The model has fresh weights and the sandbox's tokenizer; sequences are all of full length.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.common import Rows, Table, options, publish
from launchers.allocator import HUGE_PAGES, KEEP

MIB = 1 << 20
BUCKET = 1_000_000
SMALL_BUCKETS = {"reduce_bucket_size": BUCKET, "allgather_bucket_size": BUCKET}
SMALL_GATHERS = {
    "stage3_prefetch_bucket_size": BUCKET,
    "stage3_max_live_parameters": BUCKET,
    "stage3_max_reuse_distance": BUCKET,
}
LAYOUTS: dict[str, dict[str, Any] | None] = {
    "no DeepSpeed": None,
    "zero0": {"stage": 0},
    "zero1": {"stage": 1, **SMALL_BUCKETS},
    "zero2": {"stage": 2, **SMALL_BUCKETS},
    "zero3": {"stage": 3, **SMALL_BUCKETS, **SMALL_GATHERS, "stage3_gather_16bit_weights_on_model_save": True},
}
SMALL = {"layers": 2, "hidden": 64, "length": 32, "vocabulary": 512}
LARGE = {"layers": 8, "hidden": 512, "length": 256, "vocabulary": 32768}
# What is free is given back at once, so that the peak is what was in use.
RETURN_MEMORY = {
    HUGE_PAGES: "0", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "2",
}  # fmt: skip


def config_of(root: Path, name: str, size: dict[str, int]) -> Any:
    """Three optimiser steps of stage `sft`: DistributedDataParallel has its final buckets, filled, only from the third on."""
    from trainer.config.load import load_config
    from trainer.config.shipped import BASE_DIR

    zero = LAYOUTS[name]
    return load_config(
        {
            "run": {"name": name.replace(" ", "-")},
            "paths": {"runs": str(root)},
            "method": {"name": "sft"},
            "model": {
                "random_init": {
                    "model_type": "llama",
                    "hidden_size": size["hidden"],
                    "intermediate_size": 4 * size["hidden"],
                    "num_hidden_layers": size["layers"],
                    "num_attention_heads": 8,
                    "num_key_value_heads": 4,
                    "vocab_size": size["vocabulary"],
                    "max_position_embeddings": 2048,
                    "tie_word_embeddings": False,
                },
                "tokenizer": str(BASE_DIR),
                "dtype": "float32",
            },
            "data": {"format": "preference", "path": str(_pairs(root, size["length"]))},
            "trainer": {
                "max_steps": 3,
                "per_device_train_batch_size": 2,
                "max_length": size["length"],
                "save_strategy": "no",
            },
            "deepspeed": None if zero is None else {"zero_optimization": zero},
            "launcher": {"name": "local", "processes": 2},
            "judge": {"name": "exact"},
            "evaluation": None,
            "tracking": {"mode": "disabled"},
        }
    )


def _pairs(root: Path, length: int) -> Path:
    """Responses of more words than `length`, so that every sequence is cut to it."""
    from trainer.sandbox.world import COLOURS

    path = root / "pairs.jsonl"
    with path.open("w") as file:
        for row in range(32):
            answer = " ".join(COLOURS[(row + place) % len(COLOURS)] for place in range(length + 50))
            pair = {"prompt": COLOURS[row % len(COLOURS)], "chosen": answer, "rejected": COLOURS[0]}
            file.write(json.dumps(pair) + "\n")
    return path


def measured_rank(run_dir: Path, stage: str, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """In the place of `launchers.processes.start_rank`: a rank that writes down its peak, and what it says into its logs."""
    path = run_dir / stage / "logs" / f"measured{environment['RANK']}.log"
    kept = {name: value for name, value in environment.items() if name not in KEEP}
    command = [sys.executable, "-m", "benchmarks.plan_memory", "--rank", str(run_dir), stage]
    with path.open("wb") as log:
        return subprocess.Popen(
            command, env={**kept, **RETURN_MEMORY}, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip


def status(key: str) -> int:
    """A line of /proc/self/status, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024


def measure_rank(run_dir: Path, stage: str) -> int:
    """What a rank does: as trainer.worker, with an eye on the training steps."""
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed  # noqa: F401
    import torch
    import transformers
    from torch.nn.functional import mse_loss

    import trainer.pipeline.chain  # all that a stage imports
    import trainer.worker

    weight = torch.zeros(64, 64, requires_grad=True)
    mse_loss(torch.ones(64, 64) @ weight, torch.ones(64, 64)).backward()  # thread pools and kernels are there after it
    if stage == "sft":
        from trl import SFTTrainer  # noqa: F401
    baseline, peaks, original = status("VmRSS"), [], transformers.Trainer.training_step

    def watched(self: Any, *arguments: Any, **options: Any) -> Any:
        if not peaks:
            Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
        result = original(self, *arguments, **options)
        peaks.append(status("VmHWM") - baseline)
        (run_dir / stage / f"peak{os.environ['RANK']}.json").write_text(json.dumps(peaks))
        return result

    transformers.Trainer.training_step = watched
    return trainer.worker.main(run_dir, stage)


def measure(config: Any) -> tuple[float, float]:
    """(predicted, measured) bytes: the peak of the rank that needed most."""
    import trainer.pipeline.run
    from trainer.plan.layout import layout_of
    from trainer.plan.memory import estimate
    from trainer.plan.shape import shape_of

    with mock.patch("launchers.processes.start_rank", measured_rank):
        run_dir = trainer.pipeline.run.carry_out(config)
    peaks = [max(json.loads(path.read_text())) for path in (run_dir / "sft").glob("peak*.json")]
    assert len(peaks) == 2
    return estimate(shape_of(config.model), layout_of(config, config.training[0])).peak, max(peaks)


def parser() -> argparse.ArgumentParser:
    found = options(__doc__)
    found.add_argument("--only", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    found.add_argument("--rank", nargs=2, metavar=("RUN_DIR", "STAGE"), help=argparse.SUPPRESS)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    given = parser().parse_args(arguments)
    if given.rank:
        sys.exit(measure_rank(Path(given.rank[0]), given.rank[1]))
    size, names = (SMALL, ["no DeepSpeed"]) if given.smoke else (LARGE, given.only)
    rows: Rows = []
    with tempfile.TemporaryDirectory() as root:
        for name in names:
            predicted, measured = measure(config_of(Path(root), name, size))
            error = f"{100 * (predicted / measured - 1):+.1f}%"
            rows.append((name, f"{predicted / MIB:,.1f}", f"{measured / MIB:,.1f}", error))
    header = ("layout", "predicted, MiB", "measured, MiB", "error")
    title = f"Llama of {size['layers']} layers of {size['hidden']}, sequences of {size['length']} tokens"
    publish(given, "plan_memory", title, [Table("Peak of a rank, two processes, float32", header, rows)])


if __name__ == "__main__":
    main()
