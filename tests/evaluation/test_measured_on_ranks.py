"""What is measured on loaded models, over two ranks: each measures its share, and the numbers are those of one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import results
from tests.training.here import run_here
from tests.warm.client import warm_keel

pytest.importorskip("lm_eval", reason="the extra lm-eval is not installed: pip install -e '.[lm-eval]' -c constraints.txt")


@pytest.mark.slow
def test_two_ranks_measure_what_one_does(tmp_path: Path) -> None:
    arc, answers = tmp_path / "arc.jsonl", tmp_path / "answers.jsonl"
    sums = [(a, b) for a in range(1, 4) for b in range(1, 4)]
    arc.write_text("".join(json.dumps({"question": f"{a} + {b}", "right": f"{a + b}", "wrong": ["0"]}) + "\n" for a, b in sums))
    answers.write_text("".join(json.dumps({"prompt": f"{a} plus {b} ?", "response": f"{a + b}"}) + "\n" for a, b in sums))
    settings = (
        "experiment=sft", "data.prompts=40", "trainer.max_steps=1", "evaluation=several", "evaluation.models=[base]",
        "evaluation.resamples=50", "evaluation.suites.tasks.benchmark=lm_eval", "evaluation.suites.tasks.tasks=[arc_pairs]",
        f"evaluation.suites.tasks.data.arc_pairs.test={arc}", "evaluation.suites.drift.benchmark=drift",
        f"evaluation.suites.drift.sets.sums={answers}",
    )  # fmt: skip
    one = results(run_here(tmp_path / "one", *settings))["models"]["base"]
    warm_keel(*settings, "launcher.processes=2", "deepspeed=none", "tracking.mode=disabled", cwd=tmp_path)
    run_dir = tmp_path / "runs" / "sft"
    two = results(run_dir)["models"]["base"]
    assert one.keys() == two.keys() >= {"lm_eval/arc_pairs/acc", "capability", "answer_perplexity/sums"}
    for name, metric in one.items():
        assert two[name]["value"] == pytest.approx(metric["value"], rel=1e-4) and two[name]["n"] == metric["n"], name
    by_rank = sorted(len(path.read_text().splitlines()) for path in (run_dir / "evaluate" / "drift").glob("*.jsonl"))
    assert by_rank == [4, 5]
