"""SafeSteer's loss (arXiv 2606.02530, section 4 of the method): the student meets its teacher on a small set of tokens.

    B batch   T tokens   N valid positions   V vocabulary   S safety set   H student hidden   Ht teacher hidden
    z   logits                (N, V), never stored
    p_s, p_t                  softmax of the student's and the teacher's logits over the whole vocabulary

At each position, with r(v) = log p_s(v) - log p_t(v):

    slice          sum_{v in S} p_s(v) r(v)                  the paper's loss; not renormalised on S
    renormalised   KL(q_s || q_t), q = p renormalised on S   ablation
    full           KL(p_s || p_t)                            ablation: S is the whole vocabulary
    forward        sum_{v in S} p_t(v) (-r(v))               ablation: the other direction

What `slice` is. It is not a true KL divergence: p_s and p_t do not sum to one on S, so it can be negative. Free to choose each
p_s(v) on S, it is least where r(v) + 1 = 0, that is p_s = p_t / e, and not at p_s = p_t. Its gradient is exact through p_s:

    d loss / d z(u) = [u in S] p_s(u) (r(u) + 1) - p_s(u) c,    c = loss + sum_{v in S} p_s(v)

With S the whole vocabulary the +1 cancels and it is the ordinary reverse KL, KL(p_s || p_t).

Memory. Every kind is a function of the logits on S, of each model's logsumexp, and for `full` of E_s[z_t - z_s]. One autograd
function gives these; its forward and backward go over (tokens, vocabulary) in tiles and hold only a few tiles at a time. The
formulas above are then ordinary differentiable code on (N, S). A kind that does not use the logsumexp needs no tiles backward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch.autograd.function import once_differentiable
from trl.trainer.utils import maybe_gather_lm_head_ctx

from trainer.errors import ConfigError
from trainer.methods.safesteer.losses import TILE_TOKENS, TILE_VOCABULARY, LossKind

# One tile of logits is 16 MiB in float32, a few exist at a time. Smaller tiles are no faster on a CPU, and slower on a GPU.


@dataclass(frozen=True)
class Head:
    """What turns hidden states h into logits: z = softcap * tanh(scale * (h W^T + b) / softcap), or scale * (h W^T + b).

    Attributes:
        weight: (V, H).
        bias: (V,), or None.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    scale: float = 1.0
    softcap: float | None = None

    @classmethod
    def of(cls, model: Any) -> Head:
        """The head of a Hugging Face causal language model, or of the PeftModel around one.

        Raises:
            ConfigError: an adapter changes the head, so its weight alone does not give the logits.
        """
        module, config = model.get_output_embeddings(), model.config.get_text_config()
        if isinstance(module, BaseTunerLayer):
            raise ConfigError(
                "the loss reads the weight of lm_head and would miss the adapter on it: take lm_head out of target_modules"
            )
        scale = getattr(config, "logits_scaling", None) or 1.0  # Granite, MiniCPM3
        scale = scale if config.model_type == "hyperclovax" else 1.0 / scale
        for name in ("logit_scale", "lm_head_multiplier"):  # Cohere, Falcon-H1
            scale *= getattr(config, name, None) or 1.0
        return cls(module.weight, module.bias, scale, getattr(config, "final_logit_softcapping", None))


class Terms(NamedTuple):
    """Per position, each (N,), float32 or float64. Only `loss` carries a gradient."""

    loss: torch.Tensor  # nats
    student_mass: torch.Tensor  # sum_{v in S} p_s(v)
    teacher_mass: torch.Tensor  # sum_{v in S} p_t(v)
    entropy: torch.Tensor  # of p_s over the whole vocabulary, nats


def localized_divergence(
    student_hidden: torch.Tensor,
    student_head: Head,
    teacher_hidden: torch.Tensor,
    teacher_head: Head,
    tokens: torch.Tensor,
    kind: LossKind,
) -> Terms:
    """The divergence of the two next-token distributions, localized on `tokens`, at every position.

    The gradient goes to `student_hidden` and to the student head's weight and bias, where they require one; the teacher is
    constant. Logits are float32 whatever the inputs are (float64 stays), rounded as autocast would have it. Under ZeRO-3 both
    heads are gathered while they are used; call it inside the model's forward, as for any use of a weight outside its module.

    Args:
        student_hidden: (N, H), the last hidden states. N may be 0: the result is then empty and still in the graph.
        teacher_hidden: (N, Ht).
        tokens: (S,) token ids, int64, each once.
        kind: see the top of the file.

    Raises:
        ConfigError: the two heads do not have the same vocabulary.
    """
    needs_gap = kind == "full"
    lse_s, on_s, gap, lse_t, on_t, entropy = _Statistics.apply(
        _as_autocast(student_hidden), student_head.weight, student_head.bias, student_head,
        _as_autocast(teacher_hidden.detach()), teacher_head, tokens, needs_gap,
    )  # fmt: skip
    log_s, log_t = on_s - lse_s[:, None], on_t - lse_t[:, None]
    if kind == "slice":
        loss = _divergence(log_s, log_t)
    elif kind == "renormalised":
        loss = _divergence(on_s.log_softmax(1), on_t.log_softmax(1))
    elif kind == "full":
        loss = lse_t - lse_s - gap
    else:
        loss = _divergence(log_t, log_s)
    return Terms(loss, log_s.detach().exp().sum(1), log_t.exp().sum(1), entropy)


def sequence_mean(loss: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over sequences of the mean over a sequence's valid tokens; one with no valid token counts as 0.

    Args:
        loss: (N,), the valid positions of the batch in row order.
        mask: (B, T), nonzero at the N valid positions.

    Returns:
        A scalar (section 4).
    """
    valid = mask.bool()
    weight = (1.0 / valid.sum(1, keepdim=True).clamp(min=1)).to(loss.dtype).expand_as(valid)[valid]
    return (loss * weight).sum() / len(mask)


def _divergence(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """sum_v p(v) (log p(v) - log q(v)), (N, S) -> (N,)."""
    return (log_p.exp() * (log_p - log_q)).sum(1)


class _Statistics(torch.autograd.Function):
    """(hidden states, heads) -> what the losses need of the logits, without the logits.

    Returns, N first: student logsumexp (N,), student logits on S (N, S), E_s[z_t - z_s] (N,) or None, teacher logsumexp (N,),
    teacher logits on S (N, S), student entropy (N,). The first three are differentiable:

        d lse / d z(u) = p_s(u)        d E_s[z_t - z_s] / d z(u) = p_s(u) (z_t(u) - z_s(u) - E_s[z_t - z_s] - 1)
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        student: Head,
        teacher_hidden: torch.Tensor,
        teacher: Head,
        tokens: torch.Tensor,
        needs_gap: bool,
    ) -> tuple[torch.Tensor | None, ...]:
        h_s, h_t = _operand(hidden, hidden.dtype), _operand(teacher_hidden, teacher_hidden.dtype)
        with _without_autocast(hidden), _gathered(student, teacher):
            if weight.shape[0] != teacher.weight.shape[0]:
                raise ConfigError(
                    f"the student's head has {weight.shape[0]} tokens and the teacher's {teacher.weight.shape[0]}: "
                    "the two must share one vocabulary"
                )
            positions, blocks = _slices(len(hidden), TILE_TOKENS), _slices(weight.shape[0], TILE_VOCABULARY)
            per_block = torch.empty(4, len(blocks), len(hidden), dtype=_wide(hidden), device=hidden.device)
            lses_s, means, lses_t, gaps = per_block  # each (blocks, N)
            memory = _tile_memory(hidden, weight, 3 if needs_gap else 2)
            for block, columns in enumerate(blocks):
                w_s = _operand(weight[columns], hidden.dtype)
                w_t = w_s if teacher.weight is weight else _operand(teacher.weight[columns], teacher_hidden.dtype)
                for rows in positions:
                    z, p, *rest = _tiles(memory, rows, columns)
                    z_t = rest[0] if rest else z
                    _project(z_t, teacher, h_t[rows], w_t, columns)
                    lses_t[block, rows] = _softmax_into(p, z_t)
                    _project(z, student, h_s[rows], w_s, columns)
                    lses_s[block, rows] = _softmax_into(p, z)
                    if needs_gap:
                        gaps[block, rows] = z_t.sub_(z).mul_(p).sum(1)
                    means[block, rows] = p.mul_(z).sum(1)
            on_s, on_t = (torch.empty(len(hidden), len(tokens), dtype=per_block.dtype, device=hidden.device) for _ in range(2))
            _project(on_s, student, h_s, _operand(weight[tokens], hidden.dtype), tokens)
            _project(on_t, teacher, h_t, _operand(teacher.weight[tokens], teacher_hidden.dtype), tokens)
        lse_s, lse_t = lses_s.logsumexp(0), lses_t.logsumexp(0)
        share = (lses_s - lse_s).exp_()  # of a block in p_s
        entropy = lse_s - (share * means).sum(0)
        gap = (share * gaps).sum(0) if needs_gap else None
        ctx.transforms = student.scale, student.softcap, teacher.scale, teacher.softcap
        ctx.save_for_backward(hidden, weight, bias, teacher_hidden, teacher.weight, teacher.bias, tokens, lse_s, on_s, gap)
        ctx.mark_non_differentiable(lse_t, on_t, entropy)
        ctx.set_materialize_grads(False)
        return lse_s, on_s, gap, lse_t, on_t, entropy

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, d_lse: torch.Tensor | None, d_on: torch.Tensor | None, d_gap: torch.Tensor | None, *_: None
    ) -> tuple[torch.Tensor | None, ...]:
        hidden, weight, bias, teacher_hidden, teacher_weight, teacher_bias, tokens, lse, on_s, gap = ctx.saved_tensors
        scale, softcap, *teacher_transform = ctx.transforms
        student, teacher = Head(weight, bias, scale, softcap), Head(teacher_weight, teacher_bias, *teacher_transform)
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        h_s, h_t = _operand(hidden, hidden.dtype), _operand(teacher_hidden, teacher_hidden.dtype)
        with _without_autocast(hidden), _gathered(student, *([] if d_gap is None else [teacher])):
            d_hidden = _zeros_if(needs_hidden, hidden, lse.dtype)
            d_weight = _zeros_if(needs_weight, weight, weight.dtype)
            d_bias = _zeros_if(needs_bias, bias, lse.dtype)

            if d_lse is not None:
                rest = d_lse if d_gap is None else d_lse - d_gap * (gap + 1)
                memory = _tile_memory(hidden, weight, 2 if d_gap is None else 3)
                for columns in _slices(weight.shape[0], TILE_VOCABULARY):
                    w_s = _operand(weight[columns], hidden.dtype)
                    w_t: Any = None if d_gap is None else _operand(teacher_weight[columns], teacher_hidden.dtype)
                    block = _zeros_if(needs_weight, w_s, lse.dtype)
                    for rows in _slices(len(hidden), TILE_TOKENS):
                        z, d, *others = _tiles(memory, rows, columns)
                        _project(z, student, h_s[rows], w_s, columns)
                        torch.sub(z, lse[rows, None], out=d).exp_()
                        if d_gap is None:
                            d.mul_(rest[rows, None])
                        else:
                            (z_t,) = others
                            _project(z_t, teacher, h_t[rows], w_t, columns)
                            d.mul_(z_t.sub_(z).mul_(d_gap[rows, None]).add_(rest[rows, None]))
                        _undo_transform(d, student, z)
                        if d_hidden is not None:
                            _add_product(d_hidden[rows], d, w_s)
                        if block is not None:
                            _add_product(block, d.t(), h_s[rows])
                        if d_bias is not None:
                            d_bias[columns] += d.sum(0)
                    if d_weight is not None:
                        d_weight[columns] = block

            if d_on is not None:
                d = _undo_transform(d_on.clone(), student, on_s.clone())
                if d_hidden is not None:
                    _add_product(d_hidden, d, _operand(weight[tokens], hidden.dtype))
                if d_weight is not None:
                    block = torch.zeros(len(tokens), weight.shape[1], dtype=lse.dtype, device=hidden.device)
                    _add_product(block, d.t(), h_s)
                    d_weight.index_add_(0, tokens, block.to(weight.dtype))
                if d_bias is not None:
                    d_bias.index_add_(0, tokens, d.sum(0))
        return (
            None if d_hidden is None else d_hidden.to(hidden.dtype),
            d_weight,
            None if d_bias is None else d_bias.to(bias.dtype),
            *(None,) * 5,
        )


def _as_autocast(hidden: torch.Tensor) -> torch.Tensor:
    """Hidden states in the dtype a Linear would multiply them in."""
    device = hidden.device.type
    return hidden.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else hidden


def _without_autocast(hidden: torch.Tensor) -> torch.autocast:
    return torch.autocast(hidden.device.type, enabled=False)


def _gathered(*heads: Head) -> Any:
    parameters: list[Any] = [parameter for head in heads for parameter in (head.weight, head.bias)]
    return maybe_gather_lm_head_ctx(*parameters)


def _zeros_if(needed: bool, like: torch.Tensor, dtype: torch.dtype) -> Any:
    return torch.zeros_like(like, dtype=dtype) if needed else None


def _wide(hidden: torch.Tensor) -> torch.dtype:
    """The dtype of logits and of sums."""
    return torch.float64 if hidden.dtype == torch.float64 else torch.float32


def _operand(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """`values` rounded to `dtype`, ready for a product with float32 sums: only CUDA does that on half-width operands."""
    rounded = values.to(dtype)
    return rounded if rounded.is_cuda else rounded.to(_wide(rounded))


def _widening(out: torch.Tensor, factor: torch.Tensor) -> dict[str, Any]:
    return {} if factor.dtype == out.dtype else {"out_dtype": out.dtype}


def _add_product(total: torch.Tensor, gradient: torch.Tensor, factor: torch.Tensor) -> None:
    """total += gradient @ factor, multiplied in the factor's dtype and summed in the total's."""
    torch.addmm(total, gradient.to(factor.dtype), factor, out=total, **_widening(total, factor))


def _project(out: torch.Tensor, head: Head, hidden: torch.Tensor, weight: torch.Tensor, columns: slice | torch.Tensor) -> None:
    """Fill `out` with the logits of `columns`; `weight` is the operand made of those rows of the head's weight."""
    torch.mm(hidden, weight.t(), out=out, **_widening(out, weight))
    if head.bias is not None:
        out.add_(head.bias[columns])
    if head.scale != 1.0:
        out.mul_(head.scale)
    if head.softcap is not None:
        out.div_(head.softcap).tanh_().mul_(head.softcap)


def _undo_transform(gradient: torch.Tensor, head: Head, logits: torch.Tensor) -> torch.Tensor:
    """d loss / d z -> d loss / d (h W^T + b), in place; overwrites the logits too."""
    if head.softcap is not None:
        gradient.mul_(logits.div_(head.softcap).square_().neg_().add_(1.0))
    return gradient if head.scale == 1.0 else gradient.mul_(head.scale)


def _softmax_into(out: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Fill `out` with the softmax over a tile's columns. Returns the logsumexp, (rows,)."""
    torch.softmax(logits, 1, out=out)
    return logits.amax(1) - out.amax(1).log_()


def _slices(size: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, size)) for start in range(0, size, step)]


def _tile_memory(hidden: torch.Tensor, weight: torch.Tensor, count: int) -> torch.Tensor:
    elements = min(len(hidden), TILE_TOKENS) * min(weight.shape[0], TILE_VOCABULARY)
    return torch.empty(count, elements, dtype=_wide(hidden), device=hidden.device)


def _tiles(memory: torch.Tensor, rows: slice, columns: slice) -> list[torch.Tensor]:
    """Contiguous (rows, columns) tiles in the memory of `_tile_memory`."""
    shape = rows.stop - rows.start, columns.stop - columns.start
    return [flat[: shape[0] * shape[1]].view(shape) for flat in memory]
