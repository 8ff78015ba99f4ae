"""Cross-entropy against a teacher's k highest outputs: teacher and student (Hinton et al. 2015; Mosner et al. 2019).

Of a frame, the teacher gives its outputs v_i on the k senones i in K. At temperature T

    p_i = exp(v_i / T) / sum_{j in K} exp(v_j / T)  for i in K, 0 elsewhere       renormalised over the k
    q_s = exp(z_s / T) / sum_s' exp(z_s' / T)                                     the student, over all senones
    loss = - T^2 sum_{i in K} p_i log q_i = - T^2 (sum_{i in K} p_i z_i / T - log sum_s exp(z_s / T))

The student's sum runs over all senones: mass that it puts outside of K is pushed down; over K alone it would be free.

Gradient: d loss / d z_s = T^2 (q_s - p_s) / T = T (q_s - p_s). For T large against the outputs' spread p and q are near
1 / n and their difference is (z - v) / (n T) less means, so that T (q - p) keeps its size while without the factor T^2
it would shrink as 1 / T^2: with it learning rates, and the weight of hard labels beside it, hold for any T.

The loss is least, T^2 H(p), where q = p; "divergence", T^2 KL(p || q), is told as a statistic. A constant added to all
outputs of a frame of teacher or student changes nothing, so outputs of a network trained with LF-MMI, log likelihoods
up to a constant, are learnt as they are, at any T.

With hard labels (weight h): (1 - h) loss + h (- log softmax(z)[pdf]) on frames that have a pdf; others keep the loss.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Mapping, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from hybrid.data.batches import IGNORE, Batch
from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.train.loss import Loss

# Of a batch: senone ids int64 [N, k] and the teacher's outputs float32 [N, k] of its N frames, utterance by utterance.
Targets = Callable[[Batch], Tuple[Tensor, Tensor]]


def stored_targets(batch: Batch) -> Tuple[Tensor, Tensor]:
    """Return what each utterance holds as extra["soft"] (SoftTargets).

    Raises DataError where one has none or too few.
    """
    ids, values = [], []
    for utterance in batch.utterances:
        soft = utterance.extra.get("soft")
        if soft is None or len(soft) != utterance.num_frames:
            raise DataError(
                f"{0 if soft is None else len(soft)} frames of soft targets for {utterance.num_frames} of features",
                utterance=utterance.id,
                remedy="run the stage targets again",
            )
        targets = soft.decode()
        ids.append(targets[0])
        values.append(targets[1])
    device = batch.features.device
    arrays = np.concatenate(ids).astype(np.int64), np.concatenate(values).astype(np.float32)
    return torch.from_numpy(arrays[0]).to(device), torch.from_numpy(arrays[1]).to(device)


@dataclass
class OnlineTargets:
    """The outputs of `teacher` on the clean twins, utterance.extra["clean"] [T, D], computed for each batch.

    The same as a store's of the same k, but for what storing rounds off. Costs a forward pass of the teacher a batch.
    """

    teacher: nn.Module
    k: int
    head: str = "logits"

    def __call__(self, batch: Batch) -> Tuple[Tensor, Tensor]:
        self.teacher.eval()
        device = batch.features.device
        self.teacher.to(device)
        clean = torch.zeros_like(batch.features)
        for row, utterance in enumerate(batch.utterances):
            x = utterance.extra["clean"]
            clean[row, : len(x)] = torch.from_numpy(x)
        with torch.no_grad():
            outputs = self.teacher(clean, batch.lengths)[self.head]
            values, ids = frames_of(outputs, batch).topk(self.k, dim=-1)
        return ids, values


def frames_of(x: Tensor, batch: Batch) -> Tensor:
    """Return the frames that are not padding, utterance by utterance: [B, T, ...] -> [N, ...]."""
    return torch.cat([x[row, :length] for row, length in enumerate(batch.lengths.tolist())])


@dataclass
class SoftCrossEntropy:
    """targets: stored_targets or an OnlineTargets; temperature: T; hard: weight of the alignment's pdfs.

    Statistics: "divergence"; "agreed", frames where student and teacher have the same best senone; "correct" of the
    frames with a pdf as in CE. Raises ModelError where the targets have a senone that the model does not.
    """

    targets: Targets = field(default=stored_targets)
    temperature: float = 1.0
    hard: float = 0.0
    head: str = "logits"

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise ConfigError(f"the temperature is {self.temperature}", remedy="a number above 0, such as 2")
        if not 0 <= self.hard <= 1:
            raise ConfigError(f"the weight of hard labels is {self.hard}", remedy="a number from 0 to 1")

    def __call__(self, output: Mapping[str, Tensor], batch: Batch) -> Loss:
        temperature = self.temperature
        logits = frames_of(output[self.head], batch)
        ids, values = self.targets(batch)
        if int(ids.max()) >= logits.shape[-1]:
            raise ModelError(
                f"the targets have senone {int(ids.max())}, the model {logits.shape[-1]}",
                utterance=batch.ids[0],
                remedy="teacher and student come from different trees: run the senones stage and what follows again",
            )
        log_p = torch.log_softmax(values / temperature, dim=-1)
        p = log_p.exp()
        scaled = logits / temperature
        log_sum = torch.logsumexp(scaled, dim=-1)
        cross = temperature**2 * (log_sum - (p * scaled.gather(-1, ids)).sum(-1))  # [N]
        with torch.no_grad():
            divergence = float((cross + temperature**2 * (p * log_p).sum(-1)).sum())
            best = logits.argmax(-1)
            agreed = float((best == ids.gather(-1, values.argmax(-1, keepdim=True)).squeeze(-1)).sum())
        stats = {"divergence": divergence, "agreed": agreed}
        value = cross.sum()
        if self.hard:
            if batch.pdfs is None:
                raise DataError("no pdfs, not even -100, where hard labels are asked for", utterance=batch.ids[0])
            pdfs = frames_of(batch.pdfs, batch)
            labelled = pdfs != IGNORE
            hard_loss = torch.nn.functional.cross_entropy(logits[labelled], pdfs[labelled], reduction="sum")
            value = value - self.hard * cross[labelled].sum() + self.hard * hard_loss
            stats["correct"] = float((best[labelled] == pdfs[labelled]).sum())
        return Loss(value=value, frames=float(len(cross)), stats=stats)


def slow_soft_cross_entropy(
    logits: np.ndarray, teacher: np.ndarray, k: int, temperature: float
) -> float:
    """Return the loss of one utterance, float64, frame by frame as the formulas stand: the reference of tests.

    logits, teacher: [T, num_pdfs].
    """
    total = 0.0
    for z, v in zip(logits.astype(np.float64), teacher.astype(np.float64), strict=True):
        best = sorted(range(len(v)), key=lambda s: (-v[s], s))[:k]
        p = np.exp(v[best] / temperature)
        p /= p.sum()
        q = np.exp(z / temperature)
        q /= q.sum()
        total -= temperature**2 * float(np.sum(p * np.log(q[best])))
    return total
