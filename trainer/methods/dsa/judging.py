"""Responses read by a trained guardrail, every rank a share of them.

B batch, T tokens, K labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from trainer.cosa.taxonomy import OTHER_HARMS
from trainer.data.labelled import Labelled
from trainer.errors import ArtifactError
from trainer.evaluation.generate import collected
from trainer.evaluation.kept import how_loaded, inputs_of_stage, kept_of
from trainer.items import Item, Judge, Judgement, Verdict
from trainer.methods.dsa.artifact import load
from trainer.methods.dsa.base import read
from trainer.methods.dsa.batches import Collator, labels_of
from trainer.methods.dsa.examples import encode
from trainer.methods.dsa.guardrail import Guardrail
from trainer.methods.dsa.judge import GuardrailJudgeSection
from trainer.methods.dsa.quality import RESPONSE, quality_of
from trainer.models.device import device_of_rank
from trainer.models.fingerprint import base_fingerprint
from trainer.models.load import load_model, load_tokenizer
from trainer.pipeline.context import StageContext
from trainer.pipeline.places import base_model_path
from trainer.record import fingerprint_of


class GuardrailJudge(Judge):
    """Tells whether a response is unsafe, and nothing else.

    Args:
        key: of its section in the config.
    """

    def __init__(self, section: GuardrailJudgeSection, key: str, context: StageContext):
        self.context, self.key, self.batch_size = context, key, section.batch_size
        self.directory = Path(section.path or "").expanduser()
        self.quality = context.together(lambda: quality_of(self.directory, section.false_positive_rate))
        model = self.quality.run.model
        identity = {"content": inputs_of_stage(context)[f"{key}.path"], **how_loaded(model, trained=False)}
        self.kept = kept_of(context, key, identity)

    def facts(self) -> dict[str, Any]:
        return {"auc": self.quality.auc, "auc_on": self.quality.sets, "tau": self.quality.tau}

    def __call__(self, items: list[Item], responses: list[str]) -> list[Verdict]:
        """
        Raises:
            ArtifactError: the guardrail or its base is missing or damaged, or they do not belong together.
        """
        rows = [Labelled(item.prompt, response, None, None) for item, response in zip(items, responses, strict=True)]
        keys = [fingerprint_of([row.prompt, row.response]) for row in rows]
        found = collected(self.context, dict(zip(keys, rows, strict=True)), self.kept, self._read, f"judging ({self.key})")
        return [self._verdict(found[key]) for key in keys]

    def _verdict(self, p: float) -> Verdict:
        risks = frozenset({OTHER_HARMS} if p >= self.quality.tau else ())
        judgement = Judgement(risks, addressed=None, rating=None, refused=None, correct=None)
        return Verdict(judgement, {"p_unsafe": f"{p:.6g}"})

    @torch.no_grad()
    def _read(self, rows: Sequence[Labelled]) -> Iterator[list[tuple[int, float]]]:
        """(row, p(unsafe response)), batch by batch; the longest first."""
        run = self.quality.run
        path = base_model_path(run, self.directory.parent)
        tokenizer = load_tokenizer(run.model, path)
        base = load_model(run.model, path).to(device_of_rank()).eval()
        guardrail = load(self.directory, base, base_fingerprint(path))
        if not isinstance(guardrail, Guardrail):
            raise ArtifactError(f"{self.key}.path: {self.directory} is an aligner, not a guardrail.")
        examples, place = encode(tokenizer, rows), guardrail.labels.index(RESPONSE)
        unknown = labels_of(examples, guardrail.labels)
        collate = Collator(examples, guardrail.labels, unknown, tokenizer.pad_token_id, None)
        order = sorted(range(len(rows)), key=lambda row: -len(examples[row].ids))
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            given = {name: tensor.to(base.device) for name, tensor in collate([{"row": row} for row in batch]).items()}
            hidden = read(base, given["input_ids"], given["attention_mask"], logits_to_keep=1).hidden_states
            logits = guardrail(hidden, given["attention_mask"], given["positions"])[:, place]  # (B,)
            yield list(zip(batch, logits.float().sigmoid().tolist(), strict=True))


def judge(section: GuardrailJudgeSection, key: str, context: StageContext) -> Judge:
    return GuardrailJudge(section, key, context)
