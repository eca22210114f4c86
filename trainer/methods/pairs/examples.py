"""What SFT and DPO learn from: the examples that preference pairs make, and what there is to say of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainer.data.formats.pairs import DemonstrationData
from trainer.data.preferences import Preference, dpo_examples, sft_examples
from trainer.errors import DataError
from trainer.methods.pairs.datasets import that_differ
from trainer.methods.pairs.lengths import Cut


@dataclass
class Report:
    """What became of the rows that were read.

    Attributes:
        pairs: usable ones to train on. left_out: why others are not.
        examples: trainer -> those of an epoch.
        mixture: trainer -> what `DemonstrationData.told` says.
        validation: trainer -> part -> examples that are held out.
        responses_cut: trainer -> how many.
    """

    rows: int
    pairs: int
    left_out: Counter[str]
    examples: dict[str, int] = field(default_factory=dict)
    mixture: dict[str, dict[str, Any]] = field(default_factory=dict)
    validation: dict[str, dict[str, int]] = field(default_factory=dict)
    responses_cut: dict[str, int] = field(default_factory=dict)

    def line(self, limits: Mapping[str, Cut]) -> str:
        said = f"{self.rows:,} rows -> " + ", ".join(f"{n:,} for {trainer.upper()}" for trainer, n in self.examples.items())
        for trainer, parts in self.mixture.items():
            of_parts = [
                f"{part} {told['share']:.1%} ({told['in_an_epoch']:,} in an epoch, of {told['has']:,})"
                for part, told in parts.items()
            ]
            said += f"; {trainer.upper()} mixes {', '.join(of_parts)}"
        for trainer, held in self.validation.items():
            said += f"; held out {sum(held.values()):,} for {trainer.upper()}"
        said += "".join(f"; left out {count} ({reason})" for reason, count in self.left_out.items())
        return said + "".join(limits[trainer].told(trainer, count) for trainer, count in self.responses_cut.items())


def examples_of(
    trainer: str, data: DemonstrationData, tokenizer: Any, cut: Cut | None, report: Report, pairs: Sequence[Preference]
) -> dict[str, list[dict[str, Any]]]:
    """Part of a mixture -> its examples for a trainer, less those of which the cut leaves two equal texts.

    Raises:
        DataError: a part has none left.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for part in data.shares:
        of_part = [pair for pair in pairs if pair.part == part]
        rows: list[dict[str, Any]] = list(sft_examples(of_part) if trainer == "sft" else dpo_examples(of_part))
        found[part] = rows
        if cut is not None:
            found[part], shortened = that_differ(rows, tokenizer, cut)
            report.responses_cut[trainer] = report.responses_cut.get(trainer, 0) + shortened
            report.left_out += Counter({f"equal after the cut to {cut.max_length} tokens": len(rows) - len(found[part])})
        if rows and not found[part]:
            assert cut is not None
            raise DataError(f"data: no pair differs in what {trainer}.max_length={cut.max_length} leaves of it; raise it.")
        if not rows:
            raise DataError(f"data: of the part {part} no row is left on one side; hold out fewer or more (data.validation).")
    return found
