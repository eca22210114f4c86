"""When a node dies, its ranks' peers notice at once and Slurm only after its SlurmdTimeout. A job that ended in between would
count as failed; one that is still there is given other nodes and starts again."""

from __future__ import annotations

import os
import subprocess
import time

from launchers.slurm.commands import show_job, this_job
from trainer.errors import StageFailed

_ANSWER = 30  # seconds for every node to start a task that does nothing
_NOTICE = 900  # seconds for Slurm to notice; its default SlurmdTimeout is 300


def wait_if_a_node_is_lost() -> None:
    """After a stage failed: where a node of this batch job does not answer, wait for Slurm to end the job and requeue it.

    Returns where all nodes are there, or Slurm did nothing for a long time.
    """
    try:
        if not show_job(this_job(os.environ)).batch or _all_nodes_answer():
            return
    except StageFailed:
        return
    print(f"a node does not answer: waiting at most {_NOTICE} s for Slurm to notice and start the job again", flush=True)
    time.sleep(_NOTICE)  # Slurm's TERM ends this process


def _all_nodes_answer() -> bool:
    nodes = os.environ["SLURM_JOB_NUM_NODES"]
    one_each = [f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "--overlap", "--kill-on-bad-exit=1"]
    probe = subprocess.Popen(
        ["srun", *one_each, "true"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        return probe.wait(_ANSWER) == 0
    except subprocess.TimeoutExpired:
        probe.kill()
        probe.wait()
        return False
