"""What the doctor's Slurm job runs: `python -m trainer.doctor.job RUN_DIR`. Submitted by `submitted.py`, never by hand."""

from __future__ import annotations

import sys
from pathlib import Path

from trainer.config.load import read_own_config
from trainer.doctor.checkup import FINDINGS, examine, write_findings
from trainer.pipeline.run import CONFIG
from trainer.terminal import prepare


def main(run_dir: Path) -> int:
    write_findings(examine(read_own_config(run_dir / CONFIG), run_dir), run_dir / FINDINGS)
    return 0


if __name__ == "__main__":
    prepare()
    sys.exit(main(Path(sys.argv[1])))
