"""TRL's on-policy DistillationTrainer with the loss, the teacher and the samples of SafeSteer (arXiv 2606.02530)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Sampler
from trl import DistillationTrainer
from trl.models.utils import unwrap_model_for_generation
from trl.trainer.utils import pad

from trainer.methods.safesteer.direction import chat_of
from trainer.methods.safesteer.loss import Head, localized_divergence, sequence_mean
from trainer.methods.safesteer.losses import LossKind
from trainer.methods.safesteer.refusal import Prompts, prompt_tokens, score
from trainer.methods.safesteer.rollouts import sample, seed_of
from trainer.methods.safesteer.sampler import RolloutSampler
from trainer.methods.safesteer.teacher import Teacher
from trainer.models.template import stop_tokens

_PROBES_AT_ONCE = 32


class SafeSteerTrainer(DistillationTrainer):
    """What is TRL's: the loop, buffering of samples over micro-steps, gathering weights to generate, the teacher's wrapping.

    Args:
        teacher: what makes the base the safety teacher.
        safety_tokens: S.
        kind: which divergence; see `loss.py`.
        rollouts: samples per prompt; the dataset (columns prompt, index, rollout) holds a row for each.
        probes: harmless instructions whose refusal is watched; `refusal_tokens` open a refusal.
        teacher_model: a second copy of the base; None where the student's own weights without adapter are the teacher's.
    """

    loss_is_scaled_for_ga = False  # a mean over sequences: Trainer divides it by the micro-steps

    def __init__(
        self,
        *args: Any,
        teacher: Teacher,
        safety_tokens: Sequence[int],
        kind: LossKind,
        rollouts: int,
        probes: Sequence[str],
        refusal_tokens: Sequence[int],
        **kwargs: Any,
    ):
        self._rollouts = rollouts
        self._rows = len(kwargs["train_dataset"])
        super().__init__(*args, **kwargs)
        self.eos_token_ids = stop_tokens(self.accelerator.unwrap_model(self.model), self._tokenizer)
        self._teacher = teacher
        self._kind: LossKind = kind
        self._safety_tokens = torch.tensor(list(safety_tokens), device=self.accelerator.device)
        self._probes = [chat_of(probe) for probe in probes]
        self._refusal_tokens = torch.tensor(list(refusal_tokens))
        self._seeds: list[int] = []
        self._sums = torch.zeros(4)

    # Rows and samples

    def _get_train_sampler(self, dataset: Any = None) -> Sampler[int]:
        args: Any = self.args  # a DistillationConfig
        rows = args.per_device_train_batch_size * self.accelerator.num_processes * args.gradient_accumulation_steps
        repeats = args.gradient_accumulation_steps
        return RolloutSampler(self._rows, self._rollouts, rows, repeats, args.shuffle_dataset, args.seed)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        started, step = time.perf_counter(), self.state.global_step
        self._seeds = [seed_of(self.args.seed, step, row["index"], row["rollout"]) for row in inputs]
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        if self._teacher.system_prompt is not None:
            prompts = prompt_tokens(self._tokenizer, [self._teacher.chat(row["prompt"][-1]["content"]) for row in inputs])
            ids, masks = [torch.tensor(p) for p in prompts], [torch.ones(len(p), dtype=torch.long) for p in prompts]
            device, padding = self.accelerator.device, self._tokenizer.pad_token_id
            output["teacher_prompt_ids"] = pad(ids, padding_value=padding, padding_side="left").to(device)
            output["teacher_prompt_mask"] = pad(masks, padding_value=0, padding_side="left").to(device)
        self._metrics["train"]["generation_time"].append(time.perf_counter() - started)
        return output

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], images: Any, multimodal_fields: Any, has_tool_images: bool = False
    ) -> list[list[int]]:
        """Samples that do not depend on the number of ranks; and a look at the probes while the weights are at hand."""
        args: Any = self.args
        with unwrap_model_for_generation(
            self.model_wrapped,
            self.accelerator,
            gather_deepspeed3_params=args.ds3_gather_for_generation,
            gradient_checkpointing_kwargs=args.gradient_checkpointing_kwargs,
        ) as model:
            if self._probes:
                self._metrics["train"]["probe_refusals"].append(self._probe_refusals(model))
            return sample(
                model,
                prompt_ids,
                self._seeds,
                max_new_tokens=args.max_completion_length,
                stop_tokens=self.eos_token_ids,
                pad_token=self._tokenizer.pad_token_id,
            )

    def _probe_refusals(self, model: Any) -> float:
        """Share of the harmless probes that the student is more likely to refuse than not, at the reply's first token."""
        probes = Prompts(model, self._tokenizer, self._probes, _PROBES_AT_ONCE)
        scores = probes.gather([score(logits, self._refusal_tokens) for logits in probes.last_logits()])
        model.train()
        return (scores > 0).double().mean().item()

    # Loss

    def _compute_loss(self, unwrapped_student: Any, inputs: dict[str, Any], num_items_in_batch: Any) -> tuple[Tensor, ...]:
        mask = inputs["completion_mask"]  # (B, T)
        valid = mask.bool()
        teacher_hidden, teacher_head = self._ask_teacher(unwrapped_student, inputs)
        student_hidden = self._hidden(unwrapped_student, inputs["prompt_ids"], inputs["prompt_mask"], inputs)
        terms = localized_divergence(
            student_hidden[valid],
            Head.of(unwrapped_student),
            teacher_hidden[valid],
            teacher_head,
            self._safety_tokens,
            self._kind,
        )
        loss = sequence_mean(terms.loss, mask)
        count = valid.sum()
        sign = loss.detach().sign() * count
        self._sums = torch.stack([terms.student_mass.sum(), terms.teacher_mass.sum(), sign, count])
        return loss, terms.entropy.sum(), count

    def _hidden(self, model: Any, prompt_ids: Tensor, prompt_mask: Tensor, inputs: dict[str, Any]) -> Tensor:
        """The hidden states (B, T, H) that predict the completions' tokens."""
        ids = torch.cat([prompt_ids, inputs["completion_ids"]], dim=1)
        mask = torch.cat([prompt_mask, inputs["completion_mask"]], dim=1)
        hidden: Tensor = self._get_last_hidden_state(model, ids, mask, inputs["completion_ids"].size(1))
        return hidden

    @torch.no_grad()
    def _ask_teacher(self, unwrapped_student: Any, inputs: dict[str, Any]) -> tuple[Tensor, Head]:
        """The teacher's hidden states (B, T, H) on the same completions, and its head."""
        ids = inputs.get("teacher_prompt_ids", inputs["prompt_ids"])
        mask = inputs.get("teacher_prompt_mask", inputs["prompt_mask"])
        if self.teacher_model is None:
            unwrapped_student.eval()
            with unwrapped_student.disable_adapter(), self._teacher.applied(unwrapped_student):
                hidden = self._hidden(unwrapped_student, ids, mask, inputs)
            unwrapped_student.train()
            return hidden, Head.of(unwrapped_student)
        model = self.accelerator.unwrap_model(self.teacher_model)
        model.eval()
        with self._teacher.applied(model):
            hidden = self._forward_redirection(self.teacher_model, model, self._hidden, model, ids, mask, inputs)
        return hidden, Head.of(model)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        outcome = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        student, teacher, sign, count = self.accelerator.reduce(self._sums, "sum").tolist()
        metrics = self._metrics["train"]
        metrics["student_mass"].append(student / count)
        metrics["teacher_mass"].append(teacher / count)
        metrics["mass_ratio"].append(student / teacher)
        metrics["loss_sign"].append(sign / count)
        return outcome

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        metrics = self._metrics["train"]
        if metrics["step_time"]:  # not in Trainer's closing log
            rows = self.args.per_device_train_batch_size * self.accelerator.num_processes
            tokens = sum(metrics["completions/mean_length"]) * rows * self.args.gradient_accumulation_steps
            seconds = sum(metrics["step_time"])
            metrics["tokens_per_second"].append(tokens / seconds)
            metrics["generation_share"].append(sum(metrics["generation_time"]) / seconds)
        super().log(logs, start_time)
