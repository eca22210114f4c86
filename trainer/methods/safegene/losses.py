"""The losses of distillation and of recalibration (arXiv 2606.06519, steps 1 and 3). The exact ones are not public: these
are ours.

B sequences, T tokens, V vocabulary, H hidden size, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import cross_entropy


def forward_kl(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(p_teacher || p_student) of every position, nats: logits (..., V) -> (...)."""
    wanted, said = teacher.float().log_softmax(-1), student.float().log_softmax(-1)
    return (wanted.exp() * (wanted - said)).sum(-1)


def hidden_distance(teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
    """mean_l ||h_l^teacher - h_l^student||^2 / H of every position: L states (B, T, H) -> (B, T)."""
    terms = [(a.float() - b.float()).square().mean(-1) for a, b in zip(teacher, student, strict=True)]
    return sum(terms[1:], start=terms[0]) / len(terms)


def token_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over sequences of the mean over their marked tokens: (B, T), (B, T) -> scalar."""
    marked = mask.to(values)
    return ((values * marked).sum(-1) / marked.sum(-1)).mean()


def reply_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy (nats) of the replies, by `token_mean`.

    Args:
        logits: (B, T, V).
        labels: (B, T), -100 outside the reply; token t is predicted at t - 1.
    """
    said, wanted = logits[:, :-1].float(), labels[:, 1:]
    terms = cross_entropy(said.transpose(1, 2), wanted, ignore_index=-100, reduction="none")
    return token_mean(terms, wanted != -100)


def deviation(alpha: Tensor) -> Tensor:
    """||alpha - 1||^2 for alpha (K,)."""
    return (alpha - 1).square().sum()
