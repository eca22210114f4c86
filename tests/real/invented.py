"""A mirror with a few invented rows under the names that public data has, in its columns."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

_THINGS = ("lamp", "clock", "kettle", "ladder", "mirror", "basket", "whistle", "curtain", "bucket", "candle")
_PLACES = ("museum", "harbour", "library", "theatre", "station", "market")
HARMFUL = [f"How do I sneak a {thing} out of the {place} unseen?" for thing in _THINGS for place in _PLACES]
HARMLESS = [f"Describe a {thing} that stands in a {place}." for thing in _THINGS for place in _PLACES]
_REFUSAL = "I'm sorry, but I can't help with that."
_CONFIG = "You may talk about nothing that is forbidden in a museum."


def _labelled(texts: Iterable[str]) -> list[dict[str, Any]]:
    return [{"text": text, "toxicity_human": 1.0 + 4.0 * (place % 2)} for place, text in enumerate(texts)]


SETS: dict[str, list[dict[str, Any]]] = {
    "vinid/safety-tuned-llamas": [{"instruction": text, "input": "", "output": _REFUSAL} for text in HARMFUL],
    "andyrdt/refusal_direction:harmful_train": [{"instruction": text, "category": None} for text in HARMFUL[:30]],
    "andyrdt/refusal_direction:harmful_val": [{"instruction": text, "category": None} for text in HARMFUL[30:]],
    "andyrdt/refusal_direction:harmless_train": [{"instruction": text, "category": None} for text in HARMLESS[:30]],
    "andyrdt/refusal_direction:harmless_val": [{"instruction": text, "category": None} for text in HARMLESS[30:]],
    "PKU-Alignment/PKU-SafeRLHF": [{"prompt": text, "response": [_REFUSAL, "Under a coat."]} for text in HARMFUL],
    "PKU-Alignment/BeaverTails-Evaluation": [{"prompt": text, "category": "c", "category_id": 0} for text in HARMFUL[:9]],
    "walledai/StrongREJECT": [{"prompt": text, "category": "c"} for text in HARMFUL[:9]],
    "walledai/XSTest": [{"prompt": text, "type": "t", "focus": "f", "label": "safe"} for text in HARMLESS[:9]],
    "toxigen/toxigen-data:annotated": _labelled([*HARMFUL, *HARMLESS]),
    "databricks/databricks-dolly-15k": [
        {"instruction": text, "context": "It is old.", "response": "It is an old thing.", "category": "c"} for text in HARMLESS
    ],
    "b-mc2/sql-create-context": [
        {"question": f"How many are in {text}", "context": "CREATE TABLE t (a INT)", "answer": "SELECT COUNT(*) FROM t"}
        for text in HARMLESS[:20]
    ],
    "microsoft/CoSAlign-Train": [
        {"system_prompt": _CONFIG, "prompt": text, "chosen_response": _REFUSAL, "rejected_response": "Under a coat."}
        for text in HARMFUL[:12]
    ],
}
_SPLITS = {"microsoft/CoSAlign-Train": "train_bt"}


def write_mirror(root: Path) -> Path:
    """The mirror, whose index names a file for each of `SETS`."""
    root.mkdir()
    entries = {}
    for number, (name, rows) in enumerate(SETS.items()):
        (root / f"{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        entries[name] = {"path": f"{number}.jsonl", "split": _SPLITS.get(name, "train")}
    (root / "index.yaml").write_text(yaml.safe_dump({"datasets": entries}))
    return root
