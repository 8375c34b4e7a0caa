"""Optimizer of all runs: Muon for matrices, AdamW for the rest.

Muon (Jordan et al. 2024) takes the momentum of a weight matrix to the nearest orthogonal one, so that all directions
are learned at one pace. Against AdamW alone, on the same batches from the same weights, the loss of the codec stood 2
to 2.7 % lower after 100 to 400 steps; a step takes 12 % longer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

_MOMENTUM = 0.95
_SMALLEST = 16  # rows and columns of what counts as a matrix
_LIKE_ADAM = 0.2  # of Adam's usual root mean square update (Liu et al. 2025), so both share a learning rate
_QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan's coefficients: steepest at zero, within 30 % of one after five rounds
_ROUNDS = 5


class Muon(torch.optim.AdamW):
    """Optimizer of a network's weights that require a gradient; one learning rate for both kinds."""

    def __init__(self, net: nn.Module, learning_rate: float) -> None:
        trained = [(name, weight) for name, weight in net.named_parameters() if weight.requires_grad]
        matrices = [weight for name, weight in trained if _is_matrix(name, weight)]
        known = set(map(id, matrices))
        rest = [weight for _, weight in trained if id(weight) not in known]
        groups = [{"params": matrices, "matrix": True}, {"params": rest, "matrix": False}]
        super().__init__([group for group in groups if group["params"]], lr=learning_rate, weight_decay=1e-5)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step. What Muon has dealt with has no gradient left when AdamW comes along."""
        for group in self.param_groups:
            if not group["matrix"]:
                continue
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state.update(momentum=torch.zeros_like(weight), step=torch.zeros(()))  # Adam wants a step to load
                momentum = state["momentum"]
                momentum.lerp_(weight.grad, 1 - _MOMENTUM)
                update = orthogonal(weight.grad.lerp(momentum, _MOMENTUM).flatten(1))
                size = _LIKE_ADAM * max(update.shape) ** 0.5
                weight.add_(update.view(weight.shape), alpha=-group["lr"] * size)
                weight.grad = None
        super().step(closure)


def orthogonal(matrix: Tensor) -> Tensor:
    """A matrix of the same singular vectors whose singular values are all about 1, by Newton-Schulz iteration."""
    a, b, c = _QUINTIC
    wide = matrix.bfloat16()
    tall = wide.shape[0] > wide.shape[1]
    wide = wide.T if tall else wide
    wide = wide / (wide.norm() + 1e-7)
    for _ in range(_ROUNDS):
        gram = wide @ wide.T
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return (wide.T if tall else wide).to(matrix.dtype)


def _is_matrix(name: str, weight: Tensor) -> bool:
    """Whether a weight mixes channels. A linear path is left to AdamW: it starts as the KLT and should stay near it."""
    if weight.ndim < 2 or "linear" in name:
        return False
    return weight.shape[0] >= _SMALLEST and weight[0].numel() >= _SMALLEST
