"""What the answers that runs share are kept by."""

from __future__ import annotations

from dataclasses import fields

from trainer.config.sections import ModelSection
from trainer.evaluation.kept import how_loaded

BY_CONTENT = {"path", "random_init", "tokenizer", "revision", "lora"}  # what they lead to is hashed
NO_MATTER = {"shape", "trust_remote_code"}


def test_every_key_of_a_model_that_its_answers_depend_on_is_told_apart() -> None:
    asked = {field.name for field in fields(ModelSection)} - BY_CONTENT - NO_MATTER - {"save_dtype"}
    model = ModelSection(path="m", dtype="float32", save_dtype="bfloat16", chat_template="{{ messages }}")
    assert asked <= how_loaded(model, trained=True).keys()
    assert how_loaded(model, trained=True)["dtype"] == "bfloat16" and how_loaded(model, trained=False)["dtype"] == "float32"
    assert how_loaded(model, trained=False)["chat_template"] == "{{ messages }}"
