"""TRL's DPOTrainer on an aligner, with the frozen base of the same forward pass as the reference (arXiv 2506.00166).

    L = -log sigmoid( beta [ (log pi_dsa(y_w|x) - log pi_base(y_w|x)) - (log pi_dsa(y_l|x) - log pi_base(y_l|x)) ] )

The loss, its variants (`loss_type`, where `sft` is maximum likelihood of the chosen replies) and all metrics are TRL's. Ours is
what its two models are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trl import DPOConfig, DPOTrainer
from trl.trainer.utils import add_fused_lm_head

from trainer.errors import ConfigError
from trainer.methods.dsa.aligner import Aligner
from trainer.methods.dsa.artifact import save
from trainer.methods.dsa.policy import Policy, Reference
from trainer.models.shards import whole


class AlignerDPOTrainer(DPOTrainer):
    """Trains an aligner. Checkpoints, DeepSpeed's too, hold its weights and no others.

    The base is placed as TRL places a reference model: on the device, or in shards under ZeRO-3.

    Args:
        base: the causal language model, which is frozen here.
        aligner: made for it.
        base_fingerprint: what the saved aligner is bound to.
        args, kwargs: as of DPOTrainer.

    Raises:
        ConfigError: the config asks for another reference than the base of the same pass.
    """

    def __init__(self, base: Any, aligner: Aligner, base_fingerprint: str, args: DPOConfig, **kwargs: Any):
        for name in ("precompute_ref_log_probs", "sync_ref_model"):
            if getattr(args, name):
                raise ConfigError(f"dpo.{name}: an aligner's reference is the base in the same forward pass; set it to false.")
        policy: Any = Policy(base, aligner)
        super().__init__(model=policy, ref_model=base, args=args, **kwargs)
        self._base_fingerprint = base_fingerprint
        self._prepared_base = self.ref_model  # keeps DeepSpeed's engine alive
        vars(base).pop("forward", None)  # the fused head and autocast around it: hidden states in float32
        reference: Any = Reference(policy)
        add_fused_lm_head(reference)
        self.ref_model = reference
        self.aux_loss_enabled = policy.config.get_text_config().output_router_logits = False  # frozen experts need no balancing

    def save_aligner(self, directory: Path) -> list[Path]:
        """Writes the aligner by `artifact.save`; every rank calls it. Returns the files on rank 0, none elsewhere."""
        policy: Any = self.model
        with whole(policy.parameters()):
            return save(policy.aligner, directory, self._base_fingerprint) if self.is_world_process_zero() else []
