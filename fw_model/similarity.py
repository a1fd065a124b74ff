"""Exact cosine similarity search over a handful to a few thousand embeddings.

N keys, E embedding width, K results.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def unit_rows(rows: Floats) -> Floats:
    """Return `rows` [N, E] scaled to length one; a zero row stays zero."""
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.maximum(norms, 1e-12), dtype=np.float32)


def cosine_matrix(left: Floats, right: Floats) -> Floats:
    """Return the cosine of each row of `left` [M, E] with each of `right` [N, E]: [M, N]."""
    return np.asarray(unit_rows(left) @ unit_rows(right).T, dtype=np.float32)


def top_k(scores: Floats, k: int, ties: Sequence[tuple[int, ...]] | None = None) -> list[int]:
    """Return the indices of the `k` best of `scores` [N], best first.

    Equal scores are ordered by `ties` (smaller first), else by index, so the result is the same
    on every machine.
    """
    order = sorted(range(len(scores)), key=lambda i: (-float(scores[i]), ties[i] if ties else i))
    return order[:k]
