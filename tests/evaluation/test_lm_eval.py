"""lm-evaluation-harness through our command: the numbers that it gives alone, and what stands in the results."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import results
from tests.training.here import run_here
from trainer.compose import composed
from trainer.config.load import load_config
from trainer.config.shipped import BASE_DIR
from trainer.errors import ConfigError
from trainer.evaluation.measured import Measured, add_measured

pytest.importorskip("lm_eval", reason="the extra lm-eval is not installed: pip install -e '.[lm-eval]' -c constraints.txt")

from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

from trainer.evaluation.suites.lm_eval.measure import add_results
from trainer.evaluation.suites.lm_eval.tasks import OURS, manager, manager_with_files

SUMS = [
    {"question": f"what is {a} plus {b} ?", "right": f"{a + b}", "wrong": [f"{a + b + 1}", f"{a}"]}
    for a in range(1, 5)
    for b in range(1, 6)
]
# A task file of somebody's own: it generates, has a filter with a name, and no file for its data.
OWN_TASK = {
    "task": "own_sums",
    "dataset_path": "csv",
    "test_split": "test",
    "output_type": "generate_until",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{right}}",
    "generation_kwargs": {"until": ["."], "max_gen_toks": 4, "do_sample": False},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    "filter_list": [
        {"name": "first", "filter": [{"function": "regex", "regex_pattern": "([0-9]+)"}, {"function": "take_first"}]}
    ],
}
SMALL = ("experiment=sft", "data.prompts=40", "trainer.max_steps=1", "evaluation=lm_eval", "evaluation.resamples=50")


@pytest.fixture
def arc(tmp_path: Path) -> Path:
    path = tmp_path / "arc.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in SUMS))
    return path


@pytest.fixture
def own(tmp_path: Path) -> tuple[Path, Path]:
    """A folder with a task file and a group of it and of ours, and its data."""
    folder, data = tmp_path / "tasks", tmp_path / "own.csv"
    folder.mkdir()
    (folder / "own_sums.yaml").write_text(yaml.safe_dump(OWN_TASK))
    with data.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["question", "right"])
        writer.writeheader()
        writer.writerows({"question": row["question"], "right": row["right"]} for row in SUMS[:6])
    return folder, data


def alone(model: Path, task: str, tasks: Path, files: dict[str, dict[str, str]], out: Path) -> dict[str, Any]:
    """As `lm_eval --model hf` does it."""
    known = manager_with_files(str(tasks), [task], files, out)
    said = simple_evaluate(
        model="hf", model_args={"pretrained": str(model), "dtype": "float32"}, tasks=[task], device="cpu", batch_size=16,
        task_manager=known, bootstrap_iters=10,
    )  # fmt: skip
    assert said is not None
    found: dict[str, Any] = said["results"][task]
    return found


@pytest.mark.slow
def test_through_our_command_it_says_what_it_says_alone(arc: Path, own: tuple[Path, Path], tmp_path: Path) -> None:
    folder, data = own
    run_dir = run_here(
        tmp_path, *SMALL, "evaluation.tasks=[arc_pairs,own_sums]", f"evaluation.include_path={folder}",
        f"evaluation.data.arc_pairs.test={arc}", f"evaluation.data.own_sums.test={data}",
    )  # fmt: skip
    models = results(run_dir)["models"]
    assert list(models) == ["base", "sft"]
    files = {"arc_pairs": {"test": str(arc)}, "own_sums": {"test": str(data)}}
    for label, path in (("base", BASE_DIR), ("sft", run_dir / "sft" / "model")):
        for task, metrics in {"arc_pairs": {"acc": "acc,none", "acc_norm": "acc_norm,none"},
                              "own_sums": {"exact_match,first": "exact_match,first"}}.items():  # fmt: skip
            expected = alone(path, task, folder, files, tmp_path / "alone")
            for ours, theirs in metrics.items():
                metric = models[label][f"lm_eval/{task}/{ours}"]
                assert metric["value"] == expected[theirs] and metric["n"] == expected["sample_len"]
                name, _, of = theirs.partition(",")
                error = expected[f"{name}_stderr,{of}"]
                assert metric["stderr"] == error
                if error:
                    assert metric["ci95"] == [metric["value"] - 1.96 * error, metric["value"] + 1.96 * error]
                else:  # all answers are alike: Wilson's
                    assert metric["ci95"][0] < metric["ci95"][1] and metric["value"] in metric["ci95"]
        values = [models[label][f"capability/{task}"]["value"] for task in files]
        assert values == [
            models[label]["lm_eval/arc_pairs/acc"]["value"],
            models[label]["lm_eval/own_sums/exact_match,first"]["value"],
        ]
        assert models[label]["capability"]["value"] == pytest.approx(sum(values) / 2) and models[label]["capability"]["n"] == 26
    tax = 1 - models["sft"]["capability"]["value"] / models["base"]["capability"]["value"]
    assert models["sft"]["alignment_tax"]["value"] == pytest.approx(tax) and "alignment_tax" not in models["base"]


GROUP = {
    "results": {
        "both": {"alias": "both", "acc,none": 0.6, "acc_stderr,none": 0.2, "sample_len": 5},
        "one": {"acc,none": 0.5, "acc_stderr,none": 0.35, "f1,none": 0.9, "f1_stderr,none": "N/A"},
        "two": {"acc,none": 2 / 3, "acc_stderr,none": 0.3},
        "text": {"word_perplexity,none": 3.5, "word_perplexity_stderr,none": "N/A"},
        "weighted": {"score,none": 0.9, "score_stderr,none": 0.0},
        "all_right": {"acc,none": 1.0, "acc_stderr,none": 0.0},
    },
    "group_subtasks": {"both": ["one", "two"]},
    "higher_is_better": {
        "both": {"acc": True}, "one": {"acc": True}, "two": {"acc": True}, "text": {"word_perplexity": False},
        "weighted": {"score": True}, "all_right": {"acc": True},
    },
    "n-samples": {name: {"effective": n} for name, n in {"one": 2, "two": 3, "text": 4, "weighted": 2, "all_right": 6}.items()},
    "right": {
        "one": {"acc,none": [1, 0], "f1,none": [0.8, 1.0]}, "two": {"acc,none": [1, 1, 0]},
        "text": {"word_perplexity,none": [3.0]},
        "weighted": {"score,none": [1.0, 0.0]}, "all_right": {"acc,none": [1.0] * 6},
    },
}  # fmt: skip


def test_groups_and_what_is_no_share_of_right_answers() -> None:
    found = Measured()
    add_results(found, GROUP, 50, 0)
    assert found.metrics["lm_eval/both/acc"] == {"value": 0.6, "ci95": [pytest.approx(0.208), pytest.approx(0.992)], "n": 5,
                                                 "stderr": 0.2}  # fmt: skip
    assert found.metrics["lm_eval/one/f1"] == {"value": 0.9, "ci95": None, "n": 2, "stderr": None}
    assert found.metrics["lm_eval/text/word_perplexity"]["value"] == 3.5
    low, high = found.metrics["lm_eval/all_right/acc"]["ci95"]
    assert 0.5 < low < 0.7 and high == pytest.approx(1.0)  # Wilson's for 6 of 6
    # A subtask counts in its group; less is better, or no mean over questions: not a capability.
    assert found.right == {"both": [1, 0, 1, 1, 0], "all_right": [1.0] * 6}
    nothing = Measured()
    add_results(nothing, None, 50, 0)  # of a model that only answers
    assert nothing == Measured()


def test_capability_and_its_tax_are_of_the_tasks_and_judged_tasks_go_first() -> None:
    base, model = Measured(right={"a": [1, 1, 0, 1], "b": [1, 0]}), Measured(right={"a": [1, 0, 0, 1], "b": [1, 0]})
    scores: dict[str, Any] = {}
    add_measured(scores, {"base": base, "sft": model}, 50, 0)
    assert scores["base"]["capability"]["value"] == pytest.approx((0.75 + 0.5) / 2)
    assert (
        scores["sft"]["alignment_tax"]["value"] == pytest.approx(1 - 0.5 / 0.625) and scores["sft"]["alignment_tax"]["n"] == 6
    )
    judged: dict[str, Any] = {"sft": {"capability": {"value": 0.25}}}
    add_measured(judged, {"base": base, "sft": model}, 50, 0)
    assert judged["sft"]["capability"] == {"value": 0.25} and judged["sft"]["capability/a"]["value"] == 0.5
    assert "alignment_tax" not in judged["sft"]


def test_a_task_with_files_of_some_splits_leaves_the_others_out(own: tuple[Path, Path], tmp_path: Path) -> None:
    folder, data = own
    splits = {"training_split": "train", "fewshot_split": "train", "validation_split": "dev", "num_fewshot": 2}
    (folder / "own_sums.yaml").write_text(yaml.safe_dump(OWN_TASK | splits))
    known = manager_with_files(str(folder), ["own_sums"], {"own_sums": {"test": str(data)}}, tmp_path / "out")
    (task,) = known.load(["own_sums"])["tasks"].values()
    assert len(task.eval_docs) == 6 and not task.has_training_docs() and not task.has_validation_docs()


def test_our_tasks_and_a_users_are_known_without_reading_the_harnesss_own(own: tuple[Path, Path]) -> None:
    assert manager(str(own[0]), False).all_tasks == ["arc_pairs", "own_sums"] and OURS.is_dir()


def problems(monkeypatch: pytest.MonkeyPatch, *overrides: str) -> list[str]:
    """Without the harness's own tasks, which take seconds to read."""
    few = lambda path, _all: TaskManager(include_path=[str(OURS), *([path] if path else [])], include_defaults=False)  # noqa: E731
    monkeypatch.setattr("trainer.evaluation.suites.lm_eval.tasks.manager", few)
    try:
        load_config(composed(["experiment=sft", "evaluation=lm_eval", *(f"evaluation.{one}" for one in overrides)]))
    except ConfigError as error:
        return list(error.problems)
    return []


def test_what_cannot_work_is_said(arc: Path, own: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder, data = own
    (folder / "shots.yaml").write_text(
        yaml.safe_dump(OWN_TASK | {"task": "shots", "training_split": "train", "num_fewshot": 2})
    )
    for overrides, line in (
        ((), "evaluation.tasks: there is nothing to ask; name tasks of lm-evaluation-harness"),
        (("tasks=[arc_pair]",), "evaluation.tasks: unknown 'arc_pair'; did you mean arc_pairs?"),
        (("tasks=[arc_pairs]",), "evaluation.data.arc_pairs: the task comes without data; give a file for each"),
        (("tasks=[own_sums]", f"include_path={folder}"), "evaluation.data.own_sums: the task comes without data"),
        (("tasks=[own_sums]", "include_path=./no"), "evaluation.include_path: ./no does not exist"),
        (("tasks=[arc_pairs]", "data.arc_pairs.test=./no.csv"), "evaluation.data.arc_pairs.test: ./no.csv does not exist"),
        (("tasks=[arc_pairs]", f"data.arc_pairs.test={tmp_path}"), f"evaluation.data.arc_pairs.test: {tmp_path} is no file"),
        (("tasks=[arc_pairs]", f"data.arc_pairs.test={arc}", f"data.arc_pairs.train={data}"),
         "evaluation.data.arc_pairs: needs files of one kind"),
        (("tasks=[arc_pairs]", f"data.arcs.test={arc}"), "evaluation.data.arcs: there is no such task; did you mean"),
        (("tasks=[shots]", f"include_path={folder}", f"data.shots.train={data}"),
         "evaluation.data.shots: the task asks the rows of test; give a file as evaluation.data.shots.test=FILE"),
        (("tasks=[shots]", f"include_path={folder}", f"data.shots.test={data}"),
         "evaluation.data.shots: the task shows 2 examples of train; give evaluation.data.shots.train=FILE too, or"),
    ):  # fmt: skip
        found = problems(monkeypatch, *overrides)
        assert any(problem.startswith(line) for problem in found), (overrides, found)
    assert problems(monkeypatch, "tasks=[arc_pairs]", f"data.arc_pairs.test={arc}") == []
    shots = ("tasks=[shots]", f"include_path={folder}", f"data.shots.test={data}")
    assert problems(monkeypatch, *shots, "num_fewshot=0") == []
    assert problems(monkeypatch, *shots, f"data.shots.train={data}") == []
    monkeypatch.setattr("trainer.evaluation.suites.lm_eval.section.find_spec", lambda name: None)
    assert problems(monkeypatch, "tasks=[arc_pairs]") == [
        "evaluation: benchmark=lm_eval needs lm-evaluation-harness: pip install 'keel[lm-eval]' -c constraints.txt"
    ]


@pytest.mark.real_data
def test_the_published_questions_are_each_one_right_answer_among_some(public_data: Path, tmp_path: Path) -> None:
    path = public_data / "arc_pairs" / "questions.jsonl"
    known = manager_with_files(None, ["arc_pairs"], {"arc_pairs": {"test": str(path)}}, tmp_path)
    (task,) = known.load(["arc_pairs"])["tasks"].values()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    docs = list(task.eval_docs)
    assert len(docs) == len(rows)
    for doc, row in zip(docs[::50], rows[::50], strict=True):
        choices = task.doc_to_choice(doc)
        assert choices[int(task.doc_to_target(doc))] == row["right"] and choices == sorted([row["right"], *row["wrong"]])
