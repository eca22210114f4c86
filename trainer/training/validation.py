"""The loss of rows that are held out, in training: the same number on any number of ranks, and after a resume."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from transformers import DefaultFlowCallback, TrainerCallback, TrainerControl

from trainer.errors import BadLoss
from trainer.pipeline.context import StageContext

_NOT_OF_ROWS = "num_tokens"  # a metric of TRL's that counts what was trained on


class _Block(NamedTuple):
    """Rows of a dataset that were measured together. number: of the block. weight: its labels in SFT, else its rows."""

    number: int
    weight: int
    values: dict[str, float]


class Validation(TrainerCallback):
    """Takes the place of Trainer's `evaluate`, whose averages depend on how batches fall to ranks.

    The datasets are cut into blocks of `per_device_eval_batch_size` rows, whatever the ranks; each rank measures some, for
    itself. Of every metric the mean over all blocks counts, weighted by labels for SFT, so that the loss is a token's, and by
    rows otherwise. Of a mixture it is the mean of the parts, weighted by their shares, and each part has its own beside it.
    """

    def __init__(self, context: StageContext, trainer: Any):
        self.context = context
        self.trainer = trainer
        trainer.evaluate = self.evaluate

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Where a signal stopped training, that step was saved at once; its evaluation is made up for here."""
        done = any(entry.get("step") == state.global_step and "eval_loss" in entry for entry in state.log_history)
        if state.global_step and not done and _is_due(args, state):
            self.evaluate()

    def evaluate(self, **_: Any) -> dict[str, float]:
        """Measure, log, and tell the callbacks. Called on every rank.

        Raises:
            BadLoss: a loss is not finite.
        """
        trainer, shares = self.trainer, self.context.training.validation
        model = trainer.model_wrapped
        model.eval()
        by_part = {part: self._measured(model, trainer.eval_dataset[part]) for part in shares}
        everywhere = set.intersection(*map(set, by_part.values()))
        metrics = {
            f"eval_{name}": math.fsum(share * by_part[part][name] for part, share in shares.items())
            for name in sorted(everywhere)
        }
        if len(by_part) > 1:
            metrics |= {f"eval_{part}/{name}": value for part, found in by_part.items() for name, value in found.items()}
        if not math.isfinite(metrics["eval_loss"]):
            raise BadLoss(
                f"stage {self.context.stage.name}: the loss of the rows that are held out is {metrics['eval_loss']} after step "
                f"{trainer.state.global_step}: a step has ruined the weights, or one of these rows is bad. Lower the learning "
                "rate, or look at the rows of data.validation."
            )
        trainer.log(dict(metrics))
        model.train()
        trainer.control = trainer.callback_handler.on_evaluate(trainer.args, trainer.state, trainer.control, metrics)
        return metrics

    def _measured(self, model: Any, dataset: Any) -> dict[str, float]:
        """Metric -> its mean over a dataset."""
        context, size = self.context, self.trainer.args.per_device_eval_batch_size
        count = math.ceil(len(dataset) / size)
        mine: list[_Block] = []
        for turn in range(math.ceil(count / context.world_size)):  # all ranks alike: a sharded model's passes are collectives
            number = turn * context.world_size + context.rank
            first = min(number, count - 1) * size
            block = self._block(model, [dataset[row] for row in range(first, min(first + size, len(dataset)))], number)
            if number < count:
                mine.append(block)
            self.trainer.callback_handler.on_prediction_step(self.trainer.args, self.trainer.state, self.trainer.control)
        return _means(sorted((block for blocks in context.gather(mine) for block in blocks), key=lambda block: block.number))

    def _block(self, model: Any, rows: list[Any], number: int) -> _Block:
        inputs = self.trainer.data_collator(rows)
        labels = inputs.get("labels")
        weight = len(rows) if labels is None else int((labels[..., 1:] != -100).sum())
        metrics = self.trainer._metrics["eval"]  # TRL's
        metrics.clear()
        with _each_rank_for_itself(self.trainer.accelerator):
            loss, _, _ = self.trainer.prediction_step(model, inputs, prediction_loss_only=True)
        values = {name: float(of_block[-1]) for name, of_block in metrics.items() if name != _NOT_OF_ROWS}
        metrics.clear()
        return _Block(number, weight, {"loss": float(loss), **values})


def _means(blocks: list[_Block]) -> dict[str, float]:
    """Weighted; of a metric, over the blocks that have it."""
    names = dict.fromkeys(name for block in blocks for name in block.values)
    means = {}
    for name in names:
        those = [block for block in blocks if name in block.values and block.weight]
        if those:
            total = sum(block.weight for block in those)
            means[name] = math.fsum(block.weight * block.values[name] for block in those) / total
    return means


@contextmanager
def _each_rank_for_itself(accelerator: Any) -> Iterator[None]:
    """Inside, metrics are of this rank's rows: nothing is gathered."""
    replaced: Mapping[str, Any] = dict.fromkeys(("gather", "gather_for_metrics"), lambda value, *_, **__: value)
    vars(accelerator).update(replaced)
    try:
        yield
    finally:
        for name in replaced:
            del vars(accelerator)[name]


def _is_due(args: Any, state: Any) -> bool:
    """Whether Trainer evaluates after the step that the state is of."""
    flow, asked = DefaultFlowCallback(), TrainerControl()
    flow.on_step_end(args, state, asked)
    if float(state.epoch or 0).is_integer():
        flow.on_epoch_end(args, state, asked)
    return asked.should_evaluate
