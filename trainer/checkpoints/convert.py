"""DeepSpeed's `ds_to_universal`, with its arguments, reading shards by the restricted unpickler."""

from __future__ import annotations

from deepspeed.checkpoint.ds_to_universal import main, parse_arguments

from trainer.checkpoints.unpickling import restricted

if __name__ == "__main__":
    with restricted(deepspeed=True):
        main(parse_arguments())
