"""Stage `features`: one pass of the frozen base over all labelled texts; what the guardrails read of it stays on disk."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

from tqdm import tqdm

from trainer.config.training import micro_batch_size
from trainer.methods.dsa.base import read
from trainer.methods.dsa.batches import Collator, labels_of, shares
from trainer.methods.dsa.examples import encode, labels_in
from trainer.methods.dsa.features import FILES, GB, FeatureWriter, Wanted, check_budget
from trainer.methods.dsa.names import TRAIN
from trainer.methods.dsa.section import DsaMethod
from trainer.methods.dsa.stage_data import read_sets
from trainer.models.inference import load_for_inference
from trainer.models.load import load_tokenizer
from trainer.pipeline.context import StageContext
from trainer.record import hash_files, write_json

REPORT = "report.json"


def run(context: StageContext) -> list[Path]:
    """Writes the hidden states, which may be deleted once all is trained, and `report.json`, which vouches for them."""
    config, method = context.config, context.config.method
    assert isinstance(method, DsaMethod) and method.feature_cache is not None
    context.connect()
    path = context.base_model
    tokenizer = load_tokenizer(config.model, path)
    sets = read_sets(context.run_dir)
    names = labels_in(encode(tokenizer, sets[TRAIN]))
    examples = encode(tokenizer, list(chain(*sets.values())))
    model = load_for_inference(config, path)
    text = model.config.get_text_config()
    wanted = Wanted.by(list(method.guardrails.values()), text.num_hidden_layers, names)
    size = wanted.size(examples, text.hidden_size, model.dtype.itemsize)
    check_budget(size, method.feature_cache)
    if context.is_main:
        for left_over in context.stage_dir.glob(FILES):  # of a start that did not finish
            left_over.unlink()
    context.barrier()
    collate = Collator(examples, names, labels_of(examples, names), tokenizer.pad_token_id, None)
    writer = FeatureWriter(context.stage_dir, context.rank, examples, wanted)
    batch_size = micro_batch_size(config, config.training[0])
    batches = list(shares([len(example.ids) for example in examples], batch_size, context.rank, context.world_size))
    with tqdm(total=len(batches), desc="hidden states", unit="batch", disable=not context.is_main) as bar:
        for rows in batches:
            inputs = collate([{"row": row} for row in rows])
            ids, mask = (inputs[name].to(model.device) for name in ("input_ids", "attention_mask"))
            hidden = read(model, ids, mask, logits_to_keep=1).hidden_states
            for place, row in enumerate(rows):
                writer.add(row, [states[place] for states in hidden])
            bar.update()
    writer.flush()
    parts = context.gather(dict(zip([path.name for path in writer.written], hash_files(writer.written), strict=True)))
    if not context.is_main:
        return []
    layers = {"every_token": wanted.tokens, "labelled_tokens": wanted.labels}
    files = {name: digest for part in parts for name, digest in part.items()}
    write_json(context.stage_dir / REPORT, {"rows": len(examples), "bytes": size, "layers": layers, "files": files})
    print(f"{config.run.name} · features · {len(examples):,} texts, {size / GB:.3g} GB", flush=True)
    return [context.stage_dir / REPORT]
