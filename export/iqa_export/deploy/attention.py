"""Attention with folded products: two projections become one.

With queries Q, keys K (rows are tokens) and PyTorch's (out, in) weights, the logits of attention are

    (Q Wq^T + bq)(K Wk^T + bk)^T / sqrt(d)

Every term without K, Q Wq^T bk and bq.bk, adds the same number to a whole row of logits, and softmax over the row
ignores it. What is left is

    Q M K^T + 1 (K c)^T,    M = Wq^T Wk / sqrt(d),    c = Wk^T bq / sqrt(d)

so that bk vanishes and one projection serves both sides, on whichever has fewer tokens:

- on the queries, (Q M + 1 c^T) K^T: a linear layer of weight M^T and bias c;
- on the keys, Q (K M^T)^T + 1 (K c)^T: a linear layer of weight M, and c as a one-column product of its own.

The scale is inside M and c, thus applied before the long sums: in float16 they don't overflow where the scaled result
would not. Products are folded in float64 and rounded once.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from iqa_export.models.yoto import Attention


class Projections(Protocol):
    """Attention with one head: its projections, and d."""

    query: nn.Linear
    key: nn.Linear
    dim: int


def fold_products(attention: Projections) -> tuple[Tensor, Tensor]:
    """Return M, (dim, dim), and c, (dim,), of the module's docstring, both float64."""
    query, key = attention.query.weight.double(), attention.key.weight.double()
    scale = attention.dim**-0.5
    return query.T @ key * scale, key.T @ attention.query.bias.double() * scale


def linear(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> nn.Linear:
    """Make a linear layer, without gradients, of given (out, in) weight and (out,) bias rounded to `dtype`."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=dtype)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer.requires_grad_(False)


class QueryFoldedAttention(nn.Module):
    """The folded projection on the queries; those of a cached reference are projected ahead of time."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        product, row = fold_products(attention)
        self.query = linear(product.T, row, attention.query.weight.dtype)
        self.value = attention.value

    def forward(self, folded_queries: Tensor, keys: Tensor) -> Tensor:
        """Mix the values of `keys`, (..., K, dim), for each of ``self.query(queries)``, (..., Q, dim)."""
        mixed: Tensor = (folded_queries @ keys.transpose(-2, -1)).softmax(-1) @ self.value(keys)
        return mixed


class KeyFoldedAttention(nn.Module):
    """The folded projection on the keys: cheaper where they are fewer than the queries."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        product, row = fold_products(attention)
        self.key = linear(product, None, attention.key.weight.dtype)
        # A one-row layer, so that the graph multiplies by a (dim, 1) matrix: ONNX Runtime 1.31 fuses a transposed
        # operand with a one-dimensional one into silently wrong values.
        self.offset = linear(row[None], None, attention.key.weight.dtype)
        self.value = attention.value

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Mix the values of `keys`, (..., K, dim), for each of `queries`, (..., Q, dim)."""
        logits = queries @ self.key(keys).transpose(-2, -1) + self.offset(keys).transpose(-2, -1)
        mixed: Tensor = logits.softmax(-1) @ self.value(keys)
        return mixed
