"""The stage `evaluate` of a run with one process, as a judge meets it."""

from __future__ import annotations

from pathlib import Path

from trainer.compose import composed
from trainer.config.load import load_config
from trainer.config.stage import Stage
from trainer.pipeline.context import StageContext
from trainer.pipeline.work import TICKET
from trainer.record import fingerprint_path, write_json


def stage_here(run_dir: Path, judge_path: str | None = None) -> StageContext:
    """judge_path: what `judge.path` names; it need not be in the config."""
    config = load_config(composed(["experiment=evaluate", f"paths.runs={run_dir}", "run.name=run"]))
    reads = {} if judge_path is None else {"judge.path": judge_path}
    context = StageContext(config, run_dir / "run", Stage("evaluate", "", reads=reads), 0, 1)
    context.stage_dir.mkdir(parents=True, exist_ok=True)
    inputs = {key: fingerprint_path(Path(path)) for key, path in reads.items()}
    write_json(context.stage_dir / TICKET, {"fingerprint": "", "inputs": inputs})
    return context
