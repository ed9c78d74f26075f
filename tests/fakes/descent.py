"""A run of the training loop, and beside it each of its steps by hand, in float64, from the gradient of its loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from iqa_training.configuration import LoopConfig
from iqa_training.loop import fit
from iqa_training.recipes.base import Batch
from iqa_training.run.state import Run

BETAS, EPSILON = (0.9, 0.999), 1e-8
"""Of Adam, Kingma & Ba, arXiv 1412.6980, section 2; the first is the momentum of plain descent too."""

CLIP_EPSILON = 1e-6
"""What PyTorch adds to the norm that it divides by (documentation of clip_grad_norm_)."""

ROUNDING = 2e-3
"""Relative to the longest way that a number of the tensor went. Adam divides by the gradient: of millions of numbers,
some have a gradient and a decay that cancel but for 1e-4, and float32 leaves no more of those."""

STORED = 2.0**-23
"""Relative: each step rounds the parameter to float32."""

Rule = Literal["sgd", "adam", "adamw"]


@dataclass
class Parameter:
    """A parameter by hand, and what the optimiser remembers of it."""

    value: NDArray[np.float64]
    rate: float
    first: NDArray[np.float64] = field(init=False)
    second: NDArray[np.float64] = field(init=False)
    way: NDArray[np.float64] = field(init=False)
    steps: int = field(init=False)
    has_gradient: bool = False

    def __post_init__(self) -> None:
        self.way = np.zeros_like(self.value)
        self.forget()

    def forget(self) -> None:
        """Begin as a new optimiser does."""
        self.first, self.second = np.zeros_like(self.value), np.zeros_like(self.value)
        self.steps = 0

    def step(self, gradient: NDArray[np.float64], factor: float, rule: Rule, decay: float) -> None:
        before, rate = self.value, factor * self.rate
        self.steps += 1
        self.has_gradient |= bool(gradient.any())
        if rule == "adamw":  # Loshchilov & Hutter, arXiv 1711.05101: the decay is no part of the gradient
            self.value = self.value * (1 - rate * decay)
        else:
            gradient = gradient + decay * self.value
        if rule == "sgd":
            self.first = BETAS[0] * self.first + gradient
            self.value = self.value - rate * self.first
        else:
            self.first = BETAS[0] * self.first + (1 - BETAS[0]) * gradient
            self.second = BETAS[1] * self.second + (1 - BETAS[1]) * gradient**2
            mean, square = self.first / (1 - BETAS[0] ** self.steps), self.second / (1 - BETAS[1] ** self.steps)
            self.value = self.value - rate * mean / (np.sqrt(square) + EPSILON)
        self.way += abs(self.value - before)


def factor(loop: LoopConfig, step: int, steps: int) -> float:
    """Return what the rates are multiplied by in a step, counted from 0, of runs that don't warm up."""
    epoch = step * loop.epochs // steps
    if loop.compound_drops:
        rate = 1.0
        for done in range(epoch):
            rate /= 10 ** (done // loop.drop_every)
        return rate
    if loop.drop_every:
        return float(0.1 ** (epoch // loop.drop_every))
    if loop.drop_after:
        return float(0.1 ** len([last for last in loop.drop_after if last <= epoch]))
    if loop.cosine_epochs:
        return (1 + math.cos(math.pi * epoch / loop.cosine_epochs)) / 2
    return (1 + math.cos(math.pi * step / steps)) / 2


def check_descent(
    run: Run, rule: Rule, rates: Mapping[str, float], *, vectors_decay: bool = True
) -> tuple[list[dict[str, float]], set[str]]:
    """Fit, and check that every parameter ended where the steps by hand end.

    Parameters
    ----------
    run
        Without warm-up, its recipe yet untrained.
    rule
        SGD with a momentum of 0.9, or Adam with a weight decay in the gradient or beside it.
    rates
        Learning rate by the beginning of a parameter's name, the first that fits; 0 for what must stay as it is.
    vectors_decay
        Whether the weight decay is of parameters with one axis too.

    Returns
    -------
    list of dict, set of str
        The losses of each step; names of the parameters for which no step had a gradient other than zero.
    """
    network, loop = run.recipe.network, run.loop
    named = dict(network.named_parameters())
    start = {name: tensor.detach().clone() for name, tensor in named.items()}
    rate_of = {name: next(rate for key, rate in rates.items() if name.startswith(key)) for name in named}
    by_hand = {name: Parameter(start[name].double().numpy(), rate) for name, rate in rate_of.items() if rate}
    losses_of, seen = run.recipe.losses, []
    steps = loop.epochs * (len(run.train) // loop.batch)

    def losses(batch: Batch) -> dict[str, torch.Tensor]:
        parts = losses_of(batch)
        if torch.is_grad_enabled():  # and not validation
            found = torch.autograd.grad(
                parts["total"], [named[name] for name in by_hand], retain_graph=True, allow_unused=True
            )
            gradients = {
                name: gradient.double().numpy()
                for name, gradient in zip(by_hand, found, strict=True)
                if gradient is not None
            }
            norm = math.sqrt(sum(float((gradient**2).sum()) for gradient in gradients.values()))
            share = min(1.0, loop.clip / (norm + CLIP_EPSILON)) if loop.clip else 1.0
            if loop.renew_optimizer and len(seen) % (steps // loop.epochs) == 0:
                for parameter in by_hand.values():
                    parameter.forget()
            for name, gradient in gradients.items():
                decay = loop.weight_decay if vectors_decay or gradient.ndim > 1 else 0.0
                by_hand[name].step(share * gradient, factor(loop, len(seen), steps), rule, decay)
            seen.append({name: value.item() for name, value in parts.items()})
        return parts

    run.recipe.losses = losses  # type: ignore[method-assign]
    fit(run)
    assert len(seen) == steps
    for name, tensor in named.items():
        if name not in by_hand:
            assert torch.equal(tensor, start[name]), name
            continue
        hand = by_hand[name]
        allowed = ROUNDING * hand.way.max() + STORED * steps * abs(hand.value).max()
        difference = abs(tensor.detach().double().numpy() - hand.value).max()
        assert difference <= allowed, f"{name}: {difference} from where the steps by hand end, {allowed} allowed"
    return seen, {name for name in named if name not in by_hand or not by_hand[name].has_gradient}
