"""Stage `base`: write fresh weights of the shape in `model.random_init`, once, so that every rank loads the same."""

from __future__ import annotations

from pathlib import Path

from trainer.models.load import write_fresh_model
from trainer.pipeline.context import StageContext
from trainer.pipeline.places import MODEL_DIR


def run(context: StageContext) -> list[Path]:
    target = context.stage_dir / MODEL_DIR
    context.together(lambda: write_fresh_model(context.config.model, target, context.config.seed))
    return sorted(target.iterdir())
