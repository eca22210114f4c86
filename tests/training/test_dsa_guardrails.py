"""Guardrails from config to results, on the sandbox: one process or two, hidden states kept or not, stopped and resumed."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import losses, results
from tests.files import write
from tests.training.here import run_here
from tests.warm.client import stop_warm, warm_keel
from trainer.checkpoints.store import all_checkpoints
from trainer.compose import composed
from trainer.config.load import load_config
from trainer.config.shipped import BASE_DIR
from trainer.data.labelled import Labelled
from trainer.errors import ArtifactError, ConfigError, DataError
from trainer.methods.dsa import stage_guardrail
from trainer.methods.dsa.adapter_config import AdapterConfig
from trainer.methods.dsa.artifact import load
from trainer.methods.dsa.base import read
from trainer.methods.dsa.batches import shares
from trainer.methods.dsa.examples import encode, labels_in
from trainer.methods.dsa.guardrail_trainer import guardrail_loss
from trainer.methods.dsa.stage_data import read_sets
from trainer.methods.dsa.standalone import matched_width
from trainer.methods.dsa.tables import tables
from trainer.models.fingerprint import base_fingerprint
from trainer.models.load import load_model, load_tokenizer

# fp32 on CPU; what differs is the order of sums over ranks and shards.
LOSS_TOLERANCE = 2e-4

RUN = (
    "experiment=dsa_guardrails",
    "model=sandbox",
    "method.baselines=[standalone,full]",
    "method.false_positive_rate=0.05",
    "run.name=run",
    "method.guardrails.lst.every=2",  # then some layers are read only where a label is
    "data.train=160",
    "data.validation=80",
    "data.limit=60",
    "guardrail.train_batch_size=16",
    "guardrail.per_device_train_batch_size=4",
    "trainer.max_steps=5",
    "trainer.save_steps=2",
    "trainer.logging_steps=1",
    "guardrail.learning_rate=5e-3",
    "tracking.mode=disabled",
)


def alone(kind: str) -> tuple[str, ...]:
    """One guardrail, called as its kind, and nothing else."""
    others = tuple(f"~method.guardrails.{name}" for name in ("plr", "rtb", "lst") if name != kind)
    return (*others, f"method.guardrails.{kind}.kind={kind}", "method.baselines=[]", "evaluation=none")


LST = alone("lst")


def here(cwd: Path, *overrides: str) -> Path:
    """A run without DeepSpeed in this process; returns its directory."""
    return run_here(cwd, *RUN, *overrides)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every stage."""
    return here(tmp_path_factory.mktemp("whole"), "evaluation.resamples=50")


def probabilities(run_dir: Path, stage: str) -> torch.Tensor:
    lines = stage_guardrail.read_probabilities(run_dir, stage)
    return torch.tensor([list(line["p"].values()) for line in lines])


# The parts


def test_the_loss_is_the_mean_over_rows_of_the_cross_entropy_of_their_labels() -> None:
    logits, labels = torch.tensor([[0.3, -2.0], [1.5, 0.2], [-0.7, 4.0]]), torch.tensor([[1.0, 0.0], [-1.0, 1.0], [0.25, -1.0]])

    def term(logit: float, target: float) -> float:
        p = 1 / (1 + torch.tensor(-logit, dtype=torch.float64).exp())
        return float(-(target * p.log() + (1 - target) * (1 - p).log()))

    expected = ((term(0.3, 1) + term(-2.0, 0)) / 2 + term(0.2, 1) + term(-0.7, 0.25)) / 3
    assert guardrail_loss(logits, labels).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("rows", "world_size"), [(7, 1), (7, 2), (8, 3), (1, 3)])
def test_every_row_is_in_a_share_and_all_ranks_have_equally_many_batches(rows: int, world_size: int) -> None:
    lengths = [(5 * row) % 7 for row in range(rows)]
    parts = [list(shares(lengths, 2, rank, world_size)) for rank in range(world_size)]
    assert {len(part) for part in parts} == {len(parts[0])}
    assert {row for part in parts for batch in part for row in batch} == set(range(rows))


def test_an_example_ends_its_prompt_where_the_reply_begins() -> None:
    config = load_config(composed(["experiment=dsa_guardrails"]))
    tokenizer = load_tokenizer(config.model, str(BASE_DIR))
    asked, answered = encode(
        tokenizer,
        [Labelled("what is 7 plus 8 ?", None, 0), Labelled("what is 7 plus 8 ?", "15", None, 1)],
    )
    chat = [{"role": "user", "content": "what is 7 plus 8 ?"}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert (asked.ids, asked.positions) == (prompt, (len(prompt) - 1, len(prompt) - 1))
    assert answered.ids[: len(prompt)] == prompt
    assert tokenizer.decode(answered.ids[len(prompt) :]) == "15"
    assert answered.positions == (len(prompt) - 1, len(answered.ids) - 1)
    assert (labels_in([asked]), labels_in([answered]), labels_in([asked, answered])) == (
        ("prompt",),
        ("response",),
        ("prompt", "response"),
    )


# A whole run


def test_results_have_the_auc_of_every_guardrail_on_every_set(whole: Path) -> None:
    metrics = results(whole)["models"]["base"]
    guardrails, sets = ("plr", "rtb", "lst", "standalone", "full"), ("seen", "unseen", "responses")
    for guardrail, name in itertools.product(guardrails, sets):
        metric = metrics[f"guardrail_auc/{guardrail}/{name}"]
        assert metric["ci95"][0] <= metric["value"] <= metric["ci95"][1] and metric["n"] == 60
    for guardrail, kind in itertools.product(guardrails, ("tpr", "fpr")):
        assert {name for name in sets if f"guardrail_{kind}/{guardrail}/{name}" in metrics} == {"seen", "unseen"}
    assert all((whole / "evaluate" / f"guardrails_{name}.png").stat().st_size > 10_000 for name in sets)
    (table,) = tables(results(whole))
    assert [str(cell) for cell in table.columns[0].cells] == list(guardrails)
    assert [str(column.header).split()[0] for column in table.columns[1:]] == list(sets)


def test_training_lowers_the_loss_of_every_guardrail(whole: Path) -> None:
    for name in ("rtb", "lst", "full"):
        found = losses(whole / f"guardrail_{name}")
        assert len(found) == 5 and min(found[-2:]) < found[0] - 0.02, name


def test_checkpoints_and_artifacts_hold_the_adapter_and_nothing_of_the_base(whole: Path) -> None:
    saved = load_file(whole / "guardrail_lst" / "adapter.safetensors")
    checkpoint = load_file(all_checkpoints(whole / "guardrail_lst" / "checkpoints")[0] / "model.safetensors")
    assert saved.keys() == checkpoint.keys()
    assert all(name.startswith(("adapter.", "head.")) for name in saved)
    assert sum(value.numel() for value in saved.values()) < 100_000


@pytest.mark.parametrize("kind", ["plr", "rtb", "lst"])
def test_the_saved_guardrail_gives_the_probabilities_that_were_measured(whole: Path, kind: str) -> None:
    config = load_config(composed(["experiment=dsa_guardrails"]))
    base = load_model(config.model, str(BASE_DIR)).eval()
    guardrail: Any = load(whole / f"guardrail_{kind}", base, base_fingerprint(str(BASE_DIR)))
    tokenizer = load_tokenizer(config.model, str(BASE_DIR))
    sets = read_sets(whole)
    row = sets["responses"][3]
    (example,) = encode(tokenizer, [row])
    ids = torch.tensor([example.ids])
    with torch.no_grad():
        hidden = read(base, ids, torch.ones_like(ids)).hidden_states
        p = guardrail(hidden, torch.ones_like(ids), torch.tensor([example.positions])).sigmoid()[0]
    lines = [line for line in stage_guardrail.read_probabilities(whole, f"guardrail_{kind}") if line["set"] == "responses"]
    assert lines[3]["labels"] == {"response": row.response_label}
    assert p.tolist() == pytest.approx([lines[3]["p"]["prompt"], lines[3]["p"]["response"]], abs=1e-5)


def test_tau_flags_no_more_benign_validation_prompts_than_asked_for(whole: Path) -> None:
    for name in ("plr", "lst", "full"):
        tau = json.loads((whole / f"guardrail_{name}" / "report.json").read_text())["tau"]
        lines = stage_guardrail.read_probabilities(whole, f"guardrail_{name}")
        benign = [line["p"]["prompt"] for line in lines if line["set"] == "validation" and line["labels"]["prompt"] == 0]
        assert sum(p >= tau for p in benign) == int(0.05 * len(benign))
    assert json.loads((whole / "guardrail_lst" / "adapter.json").read_text())["tau"] > 0


def test_the_base_is_bit_for_bit_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the adapter is a copy of its own blocks."""
    loaded = []

    def remember(*args: Any, **kwargs: Any) -> Any:
        loaded.append(load_model(*args, **kwargs))
        return loaded[-1]

    monkeypatch.setattr(stage_guardrail, "load_model", remember)
    here(tmp_path, *alone("lld"))
    original = load_file(BASE_DIR / "model.safetensors")
    assert len(loaded) == 1
    trained = dict(loaded[0].named_parameters())
    assert all(trained[name].equal(value) for name, value in original.items())
    assert all(parameter.grad is None for parameter in trained.values())


# Hidden states that are kept


def test_kept_hidden_states_give_the_result_of_a_pass_at_every_step(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.methods.dsa.features.SHARD", 1 << 20)
    forward = "transformers.models.llama.modeling_llama.LlamaModel.forward"
    run_dir = here(tmp_path, "method.feature_cache=0.1", "method.baselines=[]", "evaluation=none", "trainer.max_steps=1")
    assert len(list((run_dir / "features").glob("*.safetensors"))) > 3
    report = json.loads((run_dir / "features" / "report.json").read_text())
    assert report["layers"] == {"every_token": [0, 2, 4], "labelled_tokens": [1, 3]}
    tensors = [load_file(path) for path in (run_dir / "features").glob("*.safetensors")]
    assert report["bytes"] == sum(tensor.nbytes for of_file in tensors for tensor in of_file.values())
    monkeypatch.setattr(forward, lambda *_, **__: pytest.fail("the base ran again"))
    run_dir = here(tmp_path, "method.feature_cache=0.1", "method.baselines=[]", "evaluation=none", "run.on_existing=resume")
    for name in ("plr", "rtb", "lst"):
        stage = f"guardrail_{name}"
        assert losses(run_dir / stage) == pytest.approx(losses(whole / stage), abs=1e-5), name
        assert torch.allclose(probabilities(run_dir, stage), probabilities(whole, stage), atol=1e-4), name


def test_hidden_states_that_do_not_fit_are_refused_before_the_pass(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"method\.feature_cache: the hidden states take 0\.0\d+ GB, more than the 1e-06 allowed"
    ):
        here(tmp_path, *LST, "method.feature_cache=1e-6")


def test_a_damaged_file_of_hidden_states_is_said(tmp_path: Path) -> None:
    arguments = (*alone("plr"), "method.feature_cache=0.1")
    run_dir = here(tmp_path, *arguments)
    next((run_dir / "features").glob("*.safetensors")).write_bytes(b"cut short")
    with pytest.raises(ArtifactError, match=r"rank0-0.safetensors changed or vanished since the hidden states were written"):
        here(tmp_path, *arguments, "guardrail.learning_rate=1e-3", "run.on_existing=resume")


# Distillation


def test_a_guardrail_learns_the_probabilities_of_the_full_size_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learnt: list[list[float]] = []

    def remember(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():  # not where the weights are looked at before they are saved
            learnt.extend(labels.tolist())
        return guardrail_loss(logits, labels)

    monkeypatch.setattr("trainer.methods.dsa.guardrail_trainer.guardrail_loss", remember)
    small = ("data.train=40", "trainer.max_steps=1", "evaluation=none")
    run_dir = here(tmp_path, *alone("plr"), *small, "method.baselines=[full]", "method.distill_from=full")
    said = [line for line in stage_guardrail.read_probabilities(run_dir, "guardrail_full") if line["set"] == "train"]
    taught = torch.tensor([list(line["p"].values()) for line in said]).tolist()
    assert len(taught) == 40 and len(learnt) == 2 * 16
    assert all(labels in ([0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]) for labels in learnt[:16])
    assert all(labels in taught for labels in learnt[16:])


# Data of one's own


def own_data(tmp_path: Path, train: list[dict[str, Any]], test: list[dict[str, Any]]) -> tuple[str, ...]:
    files = write(tmp_path / "train.jsonl", *train), write(tmp_path / "test.jsonl", *test)
    return (
        *alone("plr"), "data=labelled", f"data.path={files[0]}", f"data.tests.mine={files[1]}",
        "data.train=20", "data.validation=10", "trainer.max_steps=1", "data.limit=100",
    )  # fmt: skip


def rows(count: int, word: str) -> list[dict[str, Any]]:
    return [{"text": f"what is {number} {word} {number} ?", "label": number % 2} for number in range(count)]


def test_training_rows_whose_prompt_is_tested_are_left_out(tmp_path: Path) -> None:
    run_dir = here(tmp_path / "runs", *own_data(tmp_path, rows(40, "plus"), rows(10, "plus")))
    sets = read_sets(run_dir)
    assert not {row.prompt for row in sets["mine"]} & {row.prompt for name in ("train", "validation") for row in sets[name]}
    report = json.loads((run_dir / "data" / "report.json").read_text())
    assert report["left_out"]["prompt in a test set"] == 10
    assert report["sets"]["mine"] == {"prompt": {"unsafe": 5, "safe": 5}}


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ([{"text": "what is 1 minus 1 ?", "label": 1}], "data: no prompt of the mine set is safe"),
        (
            [{"prompt": "what is 1 minus 1 ?", "response": f"{label}", "label": label} for label in (0, 1)],
            "data: the mine set has labels of each response, and the training rows have none",
        ),
    ],
)
def test_a_set_that_nothing_can_be_measured_on_is_refused_before_training(
    tmp_path: Path, test: list[dict[str, Any]], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        here(tmp_path / "runs", *own_data(tmp_path, rows(40, "plus"), test))


def test_real_texts_of_toxigen_run_from_file_to_results(public_data: Path, tmp_path: Path) -> None:
    lines = (public_data / "toxigen" / "toxigen_annotated.jsonl").read_text().splitlines()[:300]
    (tmp_path / "train.jsonl").write_text("\n".join(lines[:200]))
    (tmp_path / "test.jsonl").write_text("\n".join(lines[200:]))
    run_dir = here(
        tmp_path / "runs", "data=toxigen", f"data.path={tmp_path / 'train.jsonl'}", "data.train=100", "data.validation=60",
        f"data.tests.toxigen={tmp_path / 'test.jsonl'}", *alone("lst")[:-1],
        "trainer.max_steps=2", "evaluation.resamples=50", "data.limit=null",
    )  # fmt: skip
    assert 0 <= results(run_dir)["models"]["base"]["guardrail_auc/lst/toxigen"]["value"] <= 1


# Several processes, and starting again


def test_two_processes_give_the_result_of_one(whole: Path, tmp_path: Path) -> None:
    warm_keel(*RUN, *LST, "deepspeed=zero2", "launcher.processes=2", cwd=tmp_path)
    _same(whole, tmp_path / "runs" / "run", "guardrail_lst")


def _same(expected: Path, found: Path, stage: str) -> None:
    assert losses(found / stage) == pytest.approx(losses(expected / stage), abs=LOSS_TOLERANCE), stage
    of_both = [
        {line["row"]: list(line["p"].values()) for line in stage_guardrail.read_probabilities(run, stage)}
        for run in (expected, found)
    ]
    assert of_both[0].keys() == of_both[1].keys()
    assert torch.allclose(*(torch.tensor([of_one[row] for row in of_both[0]]) for of_one in of_both), atol=1e-3), stage


@pytest.mark.slow
def test_every_guardrail_and_baseline_is_the_same_on_two_processes_that_keep_hidden_states(whole: Path, tmp_path: Path) -> None:
    arguments = ("evaluation=none", "method.feature_cache=0.1", "deepspeed=zero3", "launcher.processes=2")
    warm_keel(*RUN, *arguments, cwd=tmp_path)
    for name in ("plr", "rtb", "lst", "standalone", "full"):
        _same(whole, tmp_path / "runs" / "run", f"guardrail_{name}")


@pytest.mark.slow
def test_stopped_and_resumed_equals_undisturbed(tmp_path: Path) -> None:
    arguments = (*RUN, *LST, "deepspeed=zero2", "launcher.processes=1", "trainer.max_steps=40")
    warm_keel(*arguments, "run.name=undisturbed", cwd=tmp_path)
    stop_warm(*arguments, cwd=tmp_path, metrics=tmp_path / "runs" / "run" / "guardrail_lst" / "metrics.jsonl", step=2)
    warm_keel(*arguments, cwd=tmp_path)
    runs = [tmp_path / "runs" / name / "guardrail_lst" for name in ("undisturbed", "run")]
    assert losses(runs[0]) == losses(runs[1])
    assert (runs[0] / "adapter.safetensors").read_bytes() == (runs[1] / "adapter.safetensors").read_bytes()


def test_an_adapter_of_another_base_is_refused(whole: Path) -> None:
    config = load_config(composed(["experiment=dsa_guardrails"]))
    base = load_model(config.model, str(BASE_DIR))
    with pytest.raises(ArtifactError, match="an adapter fits only its own base"):
        load(whole / "guardrail_lst", base, "another")


def test_the_standalone_baseline_is_as_large_as_the_ladder(whole: Path) -> None:
    sizes = [
        json.loads((whole / f"guardrail_{name}" / "report.json").read_text())["trained_parameters"]
        for name in ("lst", "standalone")
    ]
    base = json.loads((BASE_DIR / "config.json").read_text())
    width = matched_width(AdapterConfig("lst", reduction=4, every=2), base["hidden_size"], base["num_hidden_layers"])
    assert sizes[1] - base["vocab_size"] * width == pytest.approx(sizes[0], rel=0.05)


def test_the_full_size_baseline_has_a_rate_of_its_own(tmp_path: Path) -> None:
    short = (
        *alone("plr"),
        "method.baselines=[full]",
        "data.train=32",
        "trainer.max_steps=2",
        "guardrail.lr_scheduler_type=constant",
    )
    rates = ("guardrail.warmup_steps=0", "method.full_learning_rate=1e-5")
    run_dir = here(tmp_path, *short, *rates)
    for name, rate in (("plr", 5e-3), ("full", 1e-5)):
        rows = [json.loads(line) for line in (run_dir / f"guardrail_{name}" / "metrics.jsonl").read_text().splitlines()]
        assert [row["train/learning_rate"] for row in rows if "train/learning_rate" in row] == [rate] * 2
