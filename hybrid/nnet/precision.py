"""The arithmetic of a network's products on a GPU, which is most of what a training costs.

    float32   as it says: torch's own setting would let cuDNN's LSTM round to TF32
    tf32      float32 whose factors are rounded to 10 bits of mantissa as they enter a product; sums are float32
    bf16      autocast: products take and give bfloat16, 7 bits of mantissa and float32's range, so that no loss is
              scaled; parameters, their gradients' sums, normalisation and softmax stay float32

What a criterion gets is float32 in all three. On the CPU tf32 is float32, and LSTMs recur in float32 whatever is asked.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, Mapping

import torch
from torch import Tensor

PRECISIONS = ("float32", "tf32", "bf16")


@contextmanager
def products_in(precision: str) -> Iterator[None]:
    """Round float32 products of a GPU to TF32 within the block, or do not; torch's settings come back after it."""
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = cuda.allow_tf32, cudnn.allow_tf32
    cuda.allow_tf32 = cudnn.allow_tf32 = precision != "float32"
    try:
        yield
    finally:
        cuda.allow_tf32, cudnn.allow_tf32 = before


def outputs_in(
    precision: str, model: Callable[..., Mapping[str, Tensor]], features: Tensor, *more: Any
) -> Dict[str, Tensor]:
    """Return the outputs of model(features, *more), its products in `precision`, as float32."""
    # torch 1.13 refuses bfloat16 on a GPU without it, whether autocast is enabled or not.
    wanted = torch.bfloat16 if precision == "bf16" else None
    with torch.autocast(features.device.type, wanted, enabled=wanted is not None):
        outputs = model(features, *more)
    return {name: x.float() if x.is_floating_point() else x for name, x in outputs.items()}
