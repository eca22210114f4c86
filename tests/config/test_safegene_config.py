"""What a config of SafeGene must not say, and the stages that it comes to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.files import write
from trainer.compose import composed
from trainer.config.load import load_config
from trainer.data.formats.gene import GeneFiles
from trainer.errors import ConfigError, DataError
from trainer.pipeline.chain import chain
from trainer.sandbox.gene import SandboxGene
from trainer.sandbox.tasks import TASKS, task_items


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("++model.lora.r=8", "model.lora: method=safegene has an adapter for each step"),
        ("++method.gene.lora={r: 8, use_dora: true}", r"method\.gene\.lora\.use_dora: is more than one low-rank product"),
        ("++method.task.lora={rank: 8}", r"method\.task\.lora\.rank: unknown field of LoraConfig"),
        ("++method.degrade.band=[0.5,0.2]", r"method\.degrade\.band: must be two shares, the lower first"),
        ("++method.task.lora=null", r"method\.baselines: salora is a way to train LoRA"),
        ("++method.guardrail=nowhere", r"method\.guardrail: nowhere holds no guardrail"),
        ("++distil.label_smoothing_factor=0.1", r"distil\.label_smoothing_factor: is set by nothing"),
        ("data=sandbox", r"data"),
    ],
)
def test_a_mistake_is_found_before_a_process_starts(override: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_config(composed(["experiment=safegene", override]))


def test_what_a_baseline_reads_must_be_named_where_the_run_aligns_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(composed(["experiment=safegene", "data=gene", "++data.tasks={a.b: x.jsonl}"]), tmp_path)
    problems = "\n".join(raised.value.problems)
    for said in ("safelora needs method.unaligned", "data.harmful: data.format=gene needs a file", "'a.b' names directories"):
        assert said in problems


def test_one_gene_serves_every_task_and_only_controls_add_stages() -> None:
    stages = [
        stage.name
        for stage in chain(load_config(composed(["experiment=safegene", "method.controls=[]", "method.baselines=[]"])))
    ]
    expected = ["data", "aligned", "degrade", "measure", "gene", "select"]
    expected += [f"{kind}_{task}" for task in TASKS for kind in ("task", "recalibrate", "merge")]
    assert stages == [*expected, "evaluate"]


def test_a_change_of_the_recalibration_keeps_the_gene_and_the_task_models() -> None:
    runs = [
        {stage.name: stage.settings for stage in chain(load_config(composed(["experiment=safegene", *more])))}
        for more in ([], ["method.recalibrate.eta=2", "++recalibrate.max_steps=9"])
    ]
    changed = {name for name in runs[0] if runs[0][name] != runs[1][name]}
    assert changed and all(name.startswith("recalibrate_") for name in changed - {"evaluate"})


def test_a_baseline_that_is_added_redoes_nothing_of_what_is_there() -> None:
    few, many = (
        {stage.name: (stage.settings, stage.after) for stage in chain(load_config(composed(["experiment=safegene", *more])))}
        for more in (["method.baselines=[]", "method.controls=[]"], [])
    )
    assert few.keys() < many.keys()
    assert all(few[name] == many[name] for name in few.keys() - {"evaluate"})


def test_no_prompt_of_the_sandbox_is_used_twice_and_none_is_tested() -> None:
    sets = SandboxGene(format="sandbox_gene").read(0)
    harmful = [*sets.harmful, *sets.contrast[0], *(e.prompt[0]["content"] for e in sets.refusals)]
    harmful += [item.prompt for item in sets.probes if item.suite == "attack"]
    assert len(harmful) == len(set(harmful))
    for task, examples in sets.tasks.items():
        tested = {item.prompt for item in task_items(task, 100)}  # type: ignore[arg-type]  # a name of a task
        assert not tested & {e.prompt[0]["content"] for e in examples}


def test_files_give_the_sets_of_a_gene(tmp_path: Path) -> None:
    harmless = [{"instruction": f"do {i}", "input": "this", "output": f"done {i}"} for i in range(20)]
    refused = [[{"role": "user", "content": f"no {i}"}, {"role": "assistant", "content": "sorry"}] for i in range(20)]
    given = {
        "harmful": write(tmp_path / "harmful.jsonl", *[{"instruction": f"bad {i}"} for i in range(20)]),
        "harmless": write(tmp_path / "harmless.jsonl", *harmless),
        "answered": write(tmp_path / "answered.jsonl", *[{"prompt": f"evil {i}", "completion": "yes"} for i in range(4)]),
        "refusals": write(tmp_path / "refusals.jsonl", *[{"messages": messages} for messages in refused]),
    }
    task = write(tmp_path / "task.jsonl", {"question": "q", "answer": "a"})
    sizes = {
        "distil": 8,
        "benign": 4,
        "contrast": 4,
        "degrading": 4,
        "compliant": 4,
        "recalibration": 4,
        "safety": 4,
        "probes": 8,
    }
    sets = GeneFiles(format="gene", tasks={"mine": task}, **given, **sizes).read(0)  # type: ignore[arg-type]
    assert (len(sets.harmful), len(sets.harmless), len(sets.degrading), len(sets.safety)) == (8, 4, 8, 8)
    assert sets.aligning == [] and [item.suite for item in sets.probes] == ["attack"] * 8
    assert all(prompt.endswith("\n\nthis") for prompt in sets.harmless)
    assert sets.refusals[0].chosen == "sorry" and sets.tasks["mine"][0].chosen == "a"
    unclear = write(tmp_path / "unclear.jsonl", {"prompt": "kill a process", "unsafe": 0})
    problems = GeneFiles(format="gene", tasks={"mine": task}, **(given | {"harmful": unclear})).problems("data", None, tmp_path)  # type: ignore[arg-type]
    assert len(problems) == 1 and "the column unsafe may be a label" in problems[0]
    with pytest.raises(DataError, match=r"data\.refusals: samples of 40 \+ 4 need 44"):
        GeneFiles(format="gene", tasks={}, **given, **(sizes | {"recalibration": 40})).read(0)  # type: ignore[arg-type]
