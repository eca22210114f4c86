"""Resume at another world size: DeepSpeed's shards, one set per rank, to its universal format, one file per parameter."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from trainer.checkpoints.store import read_manifest
from trainer.errors import ArtifactError

UNIVERSAL = ".universal"


def to_universal(checkpoint: Path, out: Path, zero_stage: int | None) -> Path:
    """Convert a complete ZeRO checkpoint, optimiser state included, by DeepSpeed's own tool.

    Args:
        zero_stage: that of the run which is about to load it.

    Raises:
        ArtifactError: the stage differs from the checkpoint's, or the tool fails.
    """
    manifest = read_manifest(checkpoint)
    assert manifest is not None and manifest.zero_stage is not None
    if zero_stage != manifest.zero_stage:
        raise ArtifactError(
            f"{checkpoint} was written under ZeRO stage {manifest.zero_stage} on {manifest.world_size} ranks and cannot be "
            f"loaded under stage {zero_stage} on another number; keep the stage, or the number of ranks."
        )
    (shards,) = checkpoint.glob("global_step*")
    out.mkdir(parents=True)
    command = [sys.executable, "-W", "ignore", "-m", "trainer.checkpoints.convert"]
    command += ["--input_folder", str(shards), "--output_folder", str(out / f"{shards.name}_universal")]
    command += ["--num_extract_workers", "1", "--num_merge_workers", "1"]
    if zero_stage < 3:
        command.append("--inject_missing_state")  # what DeepSpeed's Megatron users put there by hand
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise ArtifactError(
            f"{checkpoint}: DeepSpeed could not convert it from {manifest.world_size} ranks to another number; resume on "
            f"{manifest.world_size}. Its last words: {(done.stderr or done.stdout).strip()[-600:]}"
        )
    for path in checkpoint.iterdir():  # step, schedule and data position; RNG states belong to ranks that are no more
        if path.is_file() and not path.name.startswith("rng_state") and path.suffix != ".safetensors":
            shutil.copy2(path, out)
    return out


def separate_step_counts(optimizer: Any) -> None:
    """Give every optimiser state its own step count.

    DeepSpeed 0.19 loads a universal ZeRO-3 checkpoint with one `step` tensor shared by all sub-groups, which AdamW then
    advances once for each of them.
    """
    inner = optimizer
    while hasattr(inner, "optimizer"):
        inner = inner.optimizer
    for state in inner.state.values():
        if hasattr(state.get("step"), "clone"):
            state["step"] = state["step"].clone()
