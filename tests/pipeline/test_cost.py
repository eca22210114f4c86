"""What stages cost: measured, summed over ranks, starts and stages, and never made up."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trainer.compose import composed
from trainer.config.devices import peak_flops
from trainer.config.load import load_config
from trainer.config.stage import Stage, Training
from trainer.evaluation.costs import costs_of, sources_of
from trainer.pipeline.chain import chain
from trainer.pipeline.cost import EARLIER, Cost, earlier, total
from trainer.pipeline.manifest import write_manifest
from trainer.pipeline.meter import Meter
from trainer.training.callbacks.throughput import Throughput

CPU = Cost("CPU", None, 0.5, None, 2.0, None)
GPU = Cost("H100", 1.0, None, 100, 40.0, 0.7)


def test_ranks_and_stages_are_summed_and_memory_is_the_highest() -> None:
    assert total([GPU, Cost("H100", 1.0, None, None, 60.0, 0.6), CPU]) == Cost(
        "H100, CPU", 2.0, 0.5, 100, 60.0, pytest.approx(1.3)
    )


def test_energy_that_one_gpu_does_not_report_is_not_known() -> None:
    assert total([GPU, Cost("H100", 1.0, None, None, 1.0, None)]).energy is None
    assert total([CPU]).energy is None and total([CPU]).gpu_hours is None


def test_a_start_that_fails_is_paid_for_too(tmp_path: Path) -> None:
    for tokens in (10, 20):
        meter = Meter()
        meter.count(tokens)
        with pytest.raises(KeyboardInterrupt), meter.kept_if_it_fails(tmp_path, 3):
            raise KeyboardInterrupt
    with (tmp_path / EARLIER / "rank3.jsonl").open("a") as file:
        file.write('{"device": "CPU"')  # the disk was full
    assert [cost.tokens for cost in earlier(tmp_path)] == [10, 20]
    with Meter().kept_if_it_fails(tmp_path, 3):
        pass
    assert len(earlier(tmp_path)) == 2


def test_where_what_it_cost_cannot_be_written_the_failure_itself_is_told(tmp_path: Path) -> None:
    (tmp_path / EARLIER).touch()  # no directory can be made there
    with pytest.raises(KeyboardInterrupt), Meter().kept_if_it_fails(tmp_path, 0):
        raise KeyboardInterrupt


def test_a_meter_counts_work_and_not_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 460.0])
    monkeypatch.setattr("trainer.pipeline.meter.time.process_time", lambda: next(clock))
    cost = Meter().read()
    assert (cost.device, cost.cpu_hours, cost.gpu_hours, cost.tokens) == ("CPU", 0.1, None, None) and cost.peak_memory > 0


class State:
    def __init__(self, step: int, seen: int):
        self.global_step, self.num_input_tokens_seen = step, seen


@pytest.mark.parametrize("seen", [0, 500])
def test_tokens_before_a_restart_count_once(seen: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """TRL counts anew after a restart, or goes on where it kept the count in its state."""
    meter, clock = Meter(), iter([0.0, 4.0, 6.0, 6.5])
    monkeypatch.setattr("trainer.training.callbacks.throughput.time.monotonic", lambda: next(clock))
    throughput = Throughput(meter, peak=1000.0)
    model = torch.nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    throughput.begin(State(10, seen), model)
    first = throughput.since(12, {"num_tokens": seen + 100})
    assert (first["throughput/step_seconds"], first["throughput/tokens_per_second"]) == (2.0, 25.0)
    assert first["throughput/mfu"] == pytest.approx(25.0 * (6 * 6 + 4 * 2) / 1000)
    second = throughput.since(13, {"num_tokens": seen + 130})
    assert second["throughput/tokens_per_second"] == 15.0
    assert throughput.since(13, {"train_runtime": 6.5}) == {} and meter.tokens == 130


@pytest.mark.parametrize(
    ("name", "tflops"),
    [("NVIDIA H100 80GB HBM3", 989), ("NVIDIA H200", 989), ("NVIDIA A100-SXM4-40GB", 312), ("Tesla T4", None)],
)
def test_the_peak_of_a_gpu_is_known_by_its_drivers_name(name: str, tflops: int | None) -> None:
    assert peak_flops(name) == (None if tflops is None else pytest.approx(tflops * 1e12))


def _stages(tmp_path: Path, tokens: int | None) -> list[Stage]:
    stages = [
        Stage("data", ""),
        Stage("sft", "", ("data",), training=Training("sft", "sft")),
        Stage("dpo", "", ("data", "sft"), training=Training("dpo", "dpo")),
        Stage("dpo_other", "", ("sft",), training=Training("dpo_other", "dpo", variant="other")),
        Stage("evaluate", "", ("dpo", "dpo_other")),
    ]
    for stage in stages[:-1]:
        cost = Cost("CPU", None, 1.0, tokens if stage.trains else None, 1.0, None)
        (tmp_path / stage.name).mkdir()
        write_manifest(
            tmp_path / stage.name,
            fingerprint="",
            inputs={},
            config={},
            seed=0,
            world_size=1,
            seconds=0.0,
            outputs=[],
            cost=cost,
        )
    return stages


@pytest.mark.parametrize(
    ("weights", "hours", "tokens"), [(["sft"], 2, 7), (["dpo"], 3, 14), (["dpo_other"], 3, 14), (["dpo", "dpo_other"], 4, 21)]
)
def test_a_model_costs_what_the_stages_cost_that_it_comes_from(
    tmp_path: Path, weights: list[str], hours: int, tokens: int
) -> None:
    found = costs_of(weights, _stages(tmp_path, 7), tmp_path)
    assert {name: entry["value"] for name, entry in found.items()} == {"cpu_hours": hours, "tokens": tokens, "peak_memory": 1}
    assert costs_of([], [], tmp_path) == {}


def test_what_one_stage_has_not_counted_is_not_known(tmp_path: Path) -> None:
    stages = _stages(tmp_path, None)
    assert set(costs_of(["dpo"], stages, tmp_path)) == {"cpu_hours", "peak_memory"}
    (tmp_path / "sft" / "manifest.json").unlink()
    assert costs_of(["dpo"], stages, tmp_path) == {}


@pytest.mark.parametrize(
    ("experiment", "weights", "sources"),
    [
        ("cosalign", "dpo", ("dpo",)),
        ("cosalign", "base", ()),
        ("dsa", "dsa_targeted", ("guardrail_lst", "dpo_aligner")),
        ("dsa", "dsa_lambda_0.5", ("dpo_aligner",)),
        ("dsa", "base", ()),
        ("safegene", "sort/safegene", ("recalibrate_sort",)),
        ("safegene", "sort/safelora", ()),  # of several artifacts, which it does not tell apart
    ],
)
def test_a_method_says_which_stages_a_model_is_made_of(experiment: str, weights: str, sources: tuple[str, ...]) -> None:
    config = load_config(composed([f"experiment={experiment}"]))
    stages = chain(config)
    assert sources_of(config, weights, stages) == sources
    mean = sources_of(config, "mean/safegene", stages)
    assert set(mean) <= {stage.name for stage in stages} and bool(mean) == (experiment == "safegene")
