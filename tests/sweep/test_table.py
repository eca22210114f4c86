"""What a sweep's table says of its runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.compose import composed
from trainer.config.load import load_config
from trainer.config.run import write_config
from trainer.pipeline.places import RESULTS
from trainer.pipeline.run import CONFIG
from trainer.record import write_json
from trainer.sweep.table import Row, print_table


def test_the_numbers_of_a_run_are_those_of_its_own_model_not_of_an_ablation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = {"base": 0.9, "teacher": 0.8, "safesteer": 0.1, "full_vocab": 0.7, "random_tokens": 0.6}
    models = {label: {"asr": {"value": value, "ci95": None, "n": 9}} for label, value in metrics.items()}
    write_config(load_config(composed(["experiment=safesteer"])), tmp_path / CONFIG)
    write_json(tmp_path / RESULTS, {"run": "a", "models": models})
    print_table("sweep", [Row("seed=0", "done", tmp_path)])
    table = capsys.readouterr().out
    assert "0.100" in table
    assert not any(f"{value:.3f}" in table for label, value in metrics.items() if label != "safesteer")
