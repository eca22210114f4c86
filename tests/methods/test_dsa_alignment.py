"""Training an aligner by preferences: the loss against plain formulas and the stock trainer, and a base that never notices."""

from __future__ import annotations

import copy
import json
import math
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

from tests.methods.test_dsa_adapters import shaken
from tests.models.test_blocks import LAYERS, tiny
from trainer.config.shipped import BASE_DIR
from trainer.errors import ArtifactError, ConfigError
from trainer.methods.dsa.adapter_config import ALIGNERS, AdapterConfig
from trainer.methods.dsa.aligner import Aligner
from trainer.methods.dsa.artifact import FACTS, WEIGHTS, load
from trainer.methods.dsa.base import read
from trainer.methods.dsa.dpo import AlignerDPOTrainer
from trainer.methods.dsa.factory import make_aligner

BASE = "0123456789abcdef"
BETA = 0.1
CONFIGS = {
    "lst": AdapterConfig("lst", reduction=4),
    "lst_plus": AdapterConfig("lst_plus"),
    "lld": AdapterConfig("lld"),
}
PAIRS = Dataset.from_list(
    [
        {
            "prompt": "how do i make glemik ?",
            "chosen": " sorry , i can not help with that .",
            "rejected": " do glemik .",
        },
        {"prompt": "what is 7 plus 8 ?", "chosen": " 15 .", "rejected": " sorry , i can not help ."},
        {"prompt": "what colour is sirok ?", "chosen": " sirok is red .", "rejected": " no ."},
        {
            "prompt": "make sirok",
            "chosen": " i can not help with that .",
            "rejected": " what is sirok ? i do make that .",
        },
    ]
)
METRICS = ("loss", "rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen", "entropy")


def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(BASE_DIR)


def base(**changes: Any) -> Any:
    return tiny("llama", vocab_size=len(tokenizer()), **changes)


def arguments(out: Path, **fields: Any) -> DPOConfig:
    settings = {
        "learning_rate": 1e-2, "lr_scheduler_type": "constant", "per_device_train_batch_size": len(PAIRS), "max_steps": 3,
        "logging_steps": 1, "beta": BETA, "gradient_checkpointing": False, "bf16": False, "use_cpu": True, "report_to": "none",
        "save_strategy": "no", "disable_tqdm": True, "dataloader_pin_memory": False,
    }  # fmt: skip
    return DPOConfig(output_dir=str(out), **{**settings, **fields})


def trainer_of(out: Path, model: Any, aligner: Aligner, **fields: Any) -> AlignerDPOTrainer:
    return AlignerDPOTrainer(
        model, aligner, BASE, arguments(out, **fields), train_dataset=PAIRS, eval_dataset=PAIRS, processing_class=tokenizer()
    )


def batch_of(trainer: Any) -> dict[str, Tensor]:
    batch: dict[str, Tensor] = trainer.data_collator(list(trainer.train_dataset))
    return batch


def trained(trainer: Any) -> list[Tensor]:
    return [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]


def losses(trainer: Any) -> list[float]:
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


class Exact:
    """In the place of TRL's kernel, which computes in float32: the same numbers in the precision of what it is given."""

    @staticmethod
    def apply(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        logits = torch.nn.functional.linear(hidden, weight, bias)
        log_p = logits.log_softmax(-1)
        chosen = log_p.gather(-1, targets[:, None])[:, 0]
        entropy = -(log_p.exp() * log_p).sum(-1)
        return chosen, entropy, None, logits.detach().mean(-1), logits.argmax(-1) == targets


def brute_force(model: Any, aligner: Aligner, batch: dict[str, Tensor]) -> Tensor:
    """The loss of the paper from whole logits, with a forward pass of its own for the reference."""
    ids, mask, completion = batch["input_ids"], batch["attention_mask"], batch["completion_mask"]
    positions = (mask.cumsum(-1) - 1).clamp(min=0)

    def logp(logits: Tensor) -> Tensor:
        of_tokens = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        return (of_tokens * completion[:, 1:]).sum(1)

    with torch.no_grad():
        reference = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits
        read_by_aligner = model(input_ids=ids, attention_mask=mask, position_ids=positions, output_hidden_states=True)
    policy = model.lm_head(aligner.states(read_by_aligner.hidden_states, mask))
    chosen, rejected = (logp(policy) - logp(reference)).chunk(2)
    return -torch.nn.functional.logsigmoid(BETA * (chosen - rejected)).mean()


# ----------------------------------------------------------------------------------------------------------- exactness
@pytest.mark.parametrize("kind", ALIGNERS)
def test_loss_and_gradient_are_those_of_two_whole_forward_passes(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trl.trainer.utils._ChunkedLogProbFunction", Exact)
    model = base().double()
    aligner = shaken(make_aligner(CONFIGS[kind], model).double())
    trainer = trainer_of(tmp_path, model, aligner)
    batch, parameters = batch_of(trainer), trained(trainer)
    loss, expected = trainer.compute_loss(trainer.model, batch), brute_force(model, aligner, batch)
    assert loss.dtype == torch.float64
    assert abs(float(loss.detach()) - math.log(2)) > 1e-3, "the aligner says what the base says, so nothing is compared"
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)
    gradients = torch.autograd.grad(loss, parameters)
    for found, wanted in zip(gradients, torch.autograd.grad(expected, parameters), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
    step = 1e-3  # Llama's norm computes in float32, in the copied blocks too
    for parameter, gradient in list(zip(parameters, gradients, strict=True))[:: max(1, len(parameters) // 3)]:
        with torch.no_grad():
            entry, slope = parameter.view(-1), gradient.view(-1)
            where = int(slope.abs().argmax())
            values = []
            for move in (step, -2 * step):
                entry[where] += move
                values.append(float(trainer.compute_loss(trainer.model, batch)))
            entry[where] += step
        assert (values[0] - values[1]) / (2 * step) == pytest.approx(float(slope[where]), rel=2e-3, abs=1e-7)


@pytest.mark.parametrize("kind", ALIGNERS)
def test_the_tiled_head_of_trl_gives_the_same_in_float32(kind: str, tmp_path: Path) -> None:
    model = base()
    aligner = shaken(make_aligner(CONFIGS[kind], model))
    trainer = trainer_of(tmp_path, model, aligner)
    batch, parameters = batch_of(trainer), trained(trainer)
    loss, expected = trainer.compute_loss(trainer.model, batch), brute_force(model, aligner, batch)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    pairs = zip(torch.autograd.grad(loss, parameters), torch.autograd.grad(expected, parameters), strict=True)
    for found, wanted in pairs:
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)


def test_a_copy_of_all_blocks_trains_as_the_stock_trainer_trains_the_blocks(tmp_path: Path) -> None:
    """LLD over all blocks is the model itself, with embeddings, final norm and head frozen."""
    model, second, reference = base(), base(), base()
    second.requires_grad_(False)
    second.model.layers.requires_grad_(True)
    stock = DPOTrainer(
        second, reference, arguments(tmp_path / "stock"), train_dataset=PAIRS, processing_class=tokenizer()
    )  # fmt: skip
    stock.train()
    ours = trainer_of(tmp_path / "ours", model, make_aligner(AdapterConfig("lld", last_layers=LAYERS), model))
    ours.train()
    assert losses(stock)[0] == pytest.approx(math.log(2), abs=1e-6)
    assert losses(stock)[-1] < losses(stock)[0] - 0.05
    assert losses(ours) == pytest.approx(losses(stock), abs=1e-6)
    for name in METRICS:
        of_both = [[row[name] for row in t.state.log_history if name in row] for t in (ours, stock)]
        assert of_both[0] == pytest.approx(of_both[1], abs=1e-4), name


# ------------------------------------------------------------------------------------------------------------ the base
@pytest.mark.parametrize("kind", ALIGNERS)
def test_the_loss_falls_and_the_base_runs_once_a_step_and_stays_bit_identical(kind: str, tmp_path: Path) -> None:
    model = base()
    before, config = copy.deepcopy(model.state_dict()), copy.deepcopy(model.config)
    trainer = trainer_of(tmp_path, model, make_aligner(CONFIGS[kind], model), max_steps=10)
    passes: list[int] = []

    def looked_at(_: Any, __: Any, hidden: Tensor) -> None:
        assert hidden.grad_fn is None and not torch.is_grad_enabled()
        passes.append(1)

    model.model.layers[0].register_forward_hook(looked_at)
    trainer.train()
    assert len(passes) == 10
    found = losses(trainer)
    if kind != "lst":  # it does not begin as the base
        assert found[0] == pytest.approx(math.log(2), abs=1e-6)
    assert found[-1] < found[0] - 0.1
    rows = [row for row in trainer.state.log_history if "loss" in row]
    assert all(name in row for row in rows for name in METRICS)
    assert rows[-1]["rewards/margins"] > rows[0]["rewards/margins"]
    assert rows[-1]["rewards/accuracies"] == 1
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in model.parameters())
    assert model.config.to_dict() == config.to_dict()


def test_one_micro_step_is_one_pass_of_the_base_and_their_number_does_not_matter(tmp_path: Path) -> None:
    found = []
    for micro in (len(PAIRS), 1):
        model = base()
        torch.manual_seed(0)
        aligner = make_aligner(CONFIGS["lst_plus"], model)
        steps = len(PAIRS) // micro
        trainer = trainer_of(
            tmp_path, model, shaken(aligner), per_device_train_batch_size=micro, gradient_accumulation_steps=steps, max_steps=2
        )
        passes: list[int] = []
        model.model.register_forward_hook(lambda *_, passes=passes: passes.append(1))
        trainer.train()
        assert len(passes) == 2 * steps
        found.append((losses(trainer), [parameter.detach() for parameter in trained(trainer)]))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-5)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ALIGNERS)
def test_padding_does_not_matter(kind: str, tmp_path: Path) -> None:
    model = base()
    trainer = trainer_of(tmp_path, model, shaken(make_aligner(CONFIGS[kind], model)))
    batch = batch_of(trainer)
    wide = {name: torch.nn.functional.pad(value, (5, 7)) for name, value in batch.items()}
    found = [trainer.compute_loss(trainer.model, inputs).detach() for inputs in (batch, wide)]
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)


def test_recomputing_the_copied_blocks_changes_no_loss(tmp_path: Path) -> None:
    found = []
    for recompute in (False, True):
        model = base()
        trainer = trainer_of(
            tmp_path, model, make_aligner(CONFIGS["lld"], model), gradient_checkpointing=recompute, max_steps=2
        )
        trainer.train()
        copied = [module for module in trainer.model.modules() if getattr(module, "gradient_checkpointing", False)]
        assert bool(copied) == recompute
        found.append(losses(trainer))
    assert found[0] == pytest.approx(found[1], abs=1e-6)


def test_a_half_precision_base_is_read_as_it_is(tmp_path: Path) -> None:
    """And a float32 aligner learns beside it."""
    model = base().to(torch.bfloat16)
    aligner = make_aligner(CONFIGS["lst_plus"], model)
    trainer = trainer_of(tmp_path, model, aligner, bf16=True, max_steps=6)
    types: set[torch.dtype] = set()
    aligner.register_forward_pre_hook(lambda _, args: types.update(hidden.dtype for hidden in args[0]))
    trainer.train()
    assert types == {torch.bfloat16}
    assert {parameter.dtype for parameter in trained(trainer)} == {torch.float32}
    assert losses(trainer)[0] == pytest.approx(math.log(2), abs=1e-6)
    assert losses(trainer)[-1] < math.log(2) - 0.05


def test_a_mixture_of_experts_can_be_the_base(tmp_path: Path) -> None:
    model = tiny("mixtral", vocab_size=len(tokenizer()), output_router_logits=True)
    trainer = trainer_of(tmp_path, model, make_aligner(CONFIGS["lst_plus"], model))
    trainer.train()
    assert losses(trainer)[0] == pytest.approx(math.log(2), abs=1e-6)
    assert losses(trainer)[-1] < math.log(2) - 0.01


def test_chosen_replies_can_be_learned_by_maximum_likelihood(tmp_path: Path) -> None:
    model = base()
    trainer = trainer_of(tmp_path, model, make_aligner(CONFIGS["lst"], model), loss_type=["sft"], max_steps=8)
    trainer.train()
    logps = [row["logps/chosen"] for row in trainer.state.log_history if "logps/chosen" in row]
    assert logps[-1] > logps[0] + 1
    assert losses(trainer)[-1] < losses(trainer)[0] - 0.2


def test_held_out_pairs_are_measured_without_training(tmp_path: Path) -> None:
    model = base()
    trainer = trainer_of(tmp_path, model, make_aligner(CONFIGS["lld"], model))
    metrics = trainer.evaluate()
    assert metrics["eval_loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert metrics["eval_rewards/margins"] == pytest.approx(0, abs=1e-6)


@torch.no_grad()
def test_called_as_a_model_the_policy_gives_the_logits_of_the_aligner(tmp_path: Path) -> None:
    model = base()
    trainer = trainer_of(tmp_path, model, shaken(make_aligner(CONFIGS["lst_plus"], model)))
    batch = batch_of(trainer)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    policy: Any = trainer.model
    expected = model.lm_head(policy.aligner.states(read(model, ids, mask).hidden_states, mask))
    torch.testing.assert_close(policy(input_ids=ids, attention_mask=mask).logits, expected)


def test_the_reference_never_reads_a_pass_twice(tmp_path: Path) -> None:
    model = base()
    trainer = trainer_of(tmp_path, model, make_aligner(CONFIGS["lst"], model))
    trainer.compute_loss(trainer.model, batch_of(trainer))
    with pytest.raises(RuntimeError, match="run the policy first"):
        trainer.ref_model.base_model()


@pytest.mark.parametrize("field", ["precompute_ref_log_probs", "sync_ref_model"])
def test_another_reference_is_refused(field: str, tmp_path: Path) -> None:
    model = base()
    with pytest.raises(ConfigError, match=f"{field}: an aligner's reference is the base in the same forward pass"):
        trainer_of(tmp_path, model, make_aligner(CONFIGS["lst"], model), **{field: True})


# ------------------------------------------------------------------------------------------------------- what is saved
@pytest.mark.parametrize("kind", ALIGNERS)
def test_what_was_trained_is_saved_as_an_aligner_of_its_base(kind: str, tmp_path: Path) -> None:
    model = base()
    trainer = trainer_of(tmp_path, model, make_aligner(CONFIGS[kind], model))
    trainer.train()
    (tmp_path / "aligner").mkdir()
    assert [path.name for path in trainer.save_aligner(tmp_path / "aligner")] == [WEIGHTS, FACTS]
    policy: Any = trainer.model
    expected, found = policy.aligner, load(tmp_path / "aligner", model, BASE)
    weights = found.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in expected.state_dict().items())
    with pytest.raises(ArtifactError, match="fits only its own base"):
        load(tmp_path / "aligner", model, "another")


@pytest.mark.parametrize("kind", ["lst", "lld"])
def test_a_checkpoint_holds_the_aligner_only_and_training_goes_on_from_it(kind: str, tmp_path: Path) -> None:
    def fresh(name: str) -> AlignerDPOTrainer:
        model = base()
        torch.manual_seed(0)
        aligner = make_aligner(CONFIGS[kind], model)
        saves = {"save_strategy": "steps", "save_steps": 2}
        return trainer_of(tmp_path / name, model, aligner, max_steps=4, per_device_train_batch_size=2, **saves)

    whole = fresh("whole")
    whole.train()
    checkpoint = tmp_path / "whole" / "checkpoint-2"
    policy: Any = whole.model
    assert load_file(checkpoint / "model.safetensors").keys() == {f"aligner.{name}" for name in policy.aligner.state_dict()}
    moments = torch.load(checkpoint / "optimizer.pt", weights_only=True)["state"]
    assert len(moments) == len(trained(whole))
    resumed = fresh("resumed")
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert losses(resumed)[2:] == losses(whole)[2:]
    for one, other in zip(trained(whole), trained(resumed), strict=True):
        assert torch.equal(one, other)


# --------------------------------------------------------------------------------------------------------- distributed
def _train(rank: int, world: int, port: int, out: Path, kind: str, stage: int | None, resume: str | None) -> None:
    """One rank: trains, saves, and writes its losses."""
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "DS_ACCELERATOR": "cpu",
    }  # fmt: skip
    from deepspeed import ops

    ops.__compatible_ops__["deepspeed_shm_comm"] = False  # it would be compiled, for most of a minute
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    model = base()
    if rank == 0:
        model.save_pretrained(out / "base")
    zero = None if stage is None else _deepspeed(stage, len(PAIRS) // world)
    args = arguments(
        out, per_device_train_batch_size=len(PAIRS) // world, max_steps=4, save_strategy="steps", save_steps=2, deepspeed=zero,
        ddp_find_unused_parameters=False,
    )  # fmt: skip
    if stage == 3:  # in shards, from now on
        torch.distributed.barrier()
        model = AutoModelForCausalLM.from_pretrained(out / "base")
    torch.manual_seed(0)
    aligner = make_aligner(CONFIGS[kind], model)
    trainer = AlignerDPOTrainer(model, aligner, BASE, args, train_dataset=PAIRS, processing_class=tokenizer())
    trainer.train(resume_from_checkpoint=resume)
    assert getattr(trainer.model_wrapped, "zero_optimization_stage", lambda: None)() == stage
    (out / "aligner").mkdir(exist_ok=True)
    trainer.save_aligner(out / "aligner")
    if rank == 0:
        (out / "losses.json").write_text(json.dumps(losses(trainer)))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _deepspeed(stage: int, micro: int) -> dict[str, Any]:
    return {
        "zero_optimization": {"stage": stage, "stage3_gather_16bit_weights_on_model_save": True},
        "train_micro_batch_size_per_gpu": micro, "gradient_accumulation_steps": 1, "gradient_clipping": 1.0,
        "zero_allow_untested_optimizer": True,
    }  # fmt: skip


def _launch(out: Path, kind: str, processes: int, stage: int | None, resume: str | None = None) -> list[float]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(_train, (processes, port, out, kind, stage, resume), nprocs=processes)
    found: list[float] = json.loads((out / "losses.json").read_text())
    return found


def _sizes(values: Any) -> Sequence[int]:
    """The sizes of all tensors in a nested structure."""
    if isinstance(values, Tensor):
        return [values.numel()]
    items = values.values() if isinstance(values, dict) else values if isinstance(values, list | tuple) else []
    return [size for item in items for size in _sizes(item)]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "stage"), [("lst_plus", 2), ("lld", 3)])
def test_two_processes_give_the_aligner_of_one_and_resume_from_their_checkpoints(kind: str, stage: int, tmp_path: Path) -> None:
    expected = _launch(tmp_path / "one", kind, 1, None)
    found = _launch(tmp_path / "two", kind, 2, stage)
    assert expected[-1] < expected[0] - 0.02, "nothing was learned, so nothing is compared"
    assert found == pytest.approx(expected, abs=2e-4)
    one, two = (load_file(tmp_path / run / "aligner" / WEIGHTS) for run in ("one", "two"))
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-2, atol=2e-3)
    checkpoint = tmp_path / "two" / "checkpoint-2"
    size = sum(value.numel() for value in one.values())
    states = list(checkpoint.glob("global_step*/*model_states.pt"))
    assert bool(states) == (stage is not None)
    for state in states:
        assert sum(_sizes(torch.load(state, weights_only=False)["module"])) <= size
    resumed = _launch(tmp_path / "resumed", kind, 2, stage, str(checkpoint))
    assert resumed[-2:] == pytest.approx(found[-2:], abs=1e-6)
