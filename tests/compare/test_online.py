"""The same table from W&B: of runs with what the real client sends, and the server gives back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.compare.test_compare import finished, share
from trainer.compare.build import compare
from trainer.compare.online import read_online
from trainer.config.run import plain_yaml
from trainer.errors import ConfigError
from trainer.results.directories import read_directories


@dataclass
class File:
    path: Path

    def download(self, root: str, replace: bool) -> None:
        (Path(root) / self.path.name).write_bytes(self.path.read_bytes())


@dataclass
class Online:
    """As `wandb.apis.public.Run`, as far as it is read."""

    run: Path
    job_type: str

    @property
    def url(self) -> str:
        return f"https://wandb/{self.run.name}/{self.job_type}"

    @property
    def config(self) -> Any:
        return json.loads(json.dumps(plain_yaml((self.run / "config.yaml").read_text())))

    def file(self, name: str) -> File:
        return File(self.run / name)

    def scan_history(self, keys: list[str]) -> list[dict[str, float]]:
        rows = [json.loads(line) for line in (self.run / self.job_type / "metrics.jsonl").read_text().splitlines()]
        return [{key: row[key] for key in keys} for row in rows if all(key in row for key in keys)]


class Api:
    def __init__(self, *runs: Path):
        self.runs_ = [Online(run, job_type) for run in runs for job_type in ("sft", "evaluate")]

    def runs(self, project: str, filters: dict[str, str]) -> list[Online]:
        return self.runs_ if (project, filters) == ("team/keel", {"group": "s"}) else []


def runs_in(tmp_path: Path) -> list[Path]:
    found = []
    for seed in range(3):
        models = {"base": {"asr": share(0.9, 0.8, 1.0)}, "sft": {"asr": share(seed / 10, 0, 1)}}
        found.append(finished(tmp_path, f"s/{seed}", models, seed=seed))
        (found[-1] / "sft" / "metrics.jsonl").write_text('{"step": 5, "train/loss": 2.0}\n{"step": 9, "throughput/mfu": 1}\n')
    return found


def test_the_table_is_that_of_the_directories(tmp_path: Path) -> None:
    runs = runs_in(tmp_path)
    online, here = compare(*read_online("team/keel", "s", Api(*runs))), compare(*read_directories(runs))
    assert (online.rows, online.cells, online.settings, online.curves) == (here.rows, here.cells, here.settings, here.curves)


def test_a_run_from_both_is_refused(tmp_path: Path) -> None:
    runs = runs_in(tmp_path)
    sources = [*read_online("team/keel", "s", Api(*runs))[0], *read_directories(runs[:1])[0]]
    with pytest.raises(ConfigError, match="this is the same run as https"):
        compare(sources, {})


def test_what_has_no_results_is_left_out_and_no_group_is_an_error(tmp_path: Path) -> None:
    first, second, _ = runs_in(tmp_path)
    (second / "results.json").unlink()
    sources, left_out = read_online("team/keel", "s", Api(first, second))
    assert [source.name for source in sources] == ["s/0"] and list(left_out) == ["https://wandb/1/evaluate"]
    with pytest.raises(ConfigError, match="has no run in a group t"):
        read_online("team/keel", "t", Api(first))
