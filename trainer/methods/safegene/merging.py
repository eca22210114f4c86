"""How a fine-tuned model's weights are changed: SafeGene's own formula and those that it is compared with. Pure, one tensor
at a time, computed in float32 or better.

W_T the task model, W_A the aligned one, W_D the degraded one, V = W_A - W_base, all (out, in) for linear layers.
"""

from __future__ import annotations

import torch
from torch import Tensor


def exact(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def expressed(task: Tensor, delta: Tensor, alpha: float | Tensor) -> Tensor:
    """W_T + alpha dW (arXiv 2606.06519, merge); W_T itself, bit for bit, where alpha is 0."""
    return (exact(task) + alpha * delta).to(task.dtype)


def resta(task: Tensor, aligned: Tensor, degraded: Tensor, gamma: float) -> Tensor:
    """W_T + gamma (W_A - W_D) (arXiv 2402.11746, equation 2)."""
    return (exact(task) + gamma * (exact(aligned) - exact(degraded))).to(task.dtype)


def projected(update: Tensor, alignment: Tensor) -> tuple[Tensor, float]:
    """C dW and its cosine with dW, where C = V V^T / ||V||_F (arXiv 2405.16833, section 3).

    Args:
        update: dW (out, in): of a LoRA it is B A, and C (B A) = (C B) A.
        alignment: V (out, in).
    """
    update, alignment = exact(update), exact(alignment)
    size = alignment.norm()
    if not size:
        return update, 1.0  # alignment did not touch this layer: there is nothing to project on
    inside = alignment @ (alignment.T @ update) / size
    return inside, torch.nn.functional.cosine_similarity(inside.flatten(), update.flatten(), dim=0).item()


def safelora(task: Tensor, aligned: Tensor, unaligned: Tensor, tau: float) -> Tensor:
    """W_A + C dW where the cosine is at most tau, else W_T itself (arXiv 2405.16833)."""
    inside, cosine = projected(exact(task) - exact(aligned), exact(aligned) - exact(unaligned))
    return (exact(aligned) + inside).to(task.dtype) if cosine <= tau else task


def safemerge(task: Tensor, aligned: Tensor, unaligned: Tensor, safe: Tensor, tau: float, share: float) -> Tensor:
    """share W_T + (1 - share) W_safe where the cosine of `safelora` is below tau, else W_T itself (arXiv 2503.17239).

    Args:
        safe: the aligned model, fine-tuned on safety data.
        share: the weight of the task model: 0.8.
    """
    _, cosine = projected(exact(task) - exact(aligned), exact(aligned) - exact(unaligned))
    return (share * exact(task) + (1 - share) * exact(safe)).to(task.dtype) if cosine < tau else task
