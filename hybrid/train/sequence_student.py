"""Sequence-level teacher and student, beside LF-MMI on what is transcribed.

Over the paths pi of the denominator graph, w(pi) their probabilities, teacher and student have the distributions

    P_T(pi) = w(pi) exp(sum_t v[t, pi_t]) / Z_T     v: the teacher's outputs on clean speech
    P_S(pi) = w(pi) exp(sum_t y[t, pi_t]) / Z_S     y: the student's on its noisy twin

The student shall have the teacher's. The cross-entropy needs no more of P_T than its denominator posteriors g[t, s],
those that the path is at senone s in frame t:

    - sum_pi P_T log P_S = log Z_S - sum_t sum_s g[t, s] y[t, s] - sum_pi P_T log w

The last sum does not depend on the student. Minimised is

    loss = log Z_S - sum_t sum_s g[t, s] y[t, s],       d loss / d y[t, s] = g_S[t, s] - g[t, s]

which is LF-MMI with the teacher's distribution in the numerator's place: where the teacher is sure of one transcript it
is LF-MMI of that transcript (Wong and Gales 2016, "Sequence student-teacher training of deep neural networks"; Kanda
et al. 2017; Manohar et al. 2018, "Semi-supervised training of acoustic models using lattice-free MMI", where a lattice
plays the teacher's part). Frame by frame (soft_ce.py) a teacher says what it takes each frame alone for; g says what it
takes it for given all others, the phones' order and durations: it is right far more often.

Stored are the k highest log g of a frame (targets of the kind "occupancies"); they are renormalised over the k.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

import torch

from hybrid.data.batches import Batch
from hybrid.errors import ConfigError
from hybrid.train.forward_backward import total_scores
from hybrid.train.lfmmi import LfMmi, half_square, inside_of
from hybrid.train.loss import Loss
from hybrid.train.soft_ce import Targets, stored_targets


class SequenceStudent:
    """Utterances with extra["soft"] learn the teacher's occupancies, the others their transcripts by `transcribed`.

    weight: of the former's frames. xent_regularize of `transcribed` holds for both: CE of the second head, against
    the occupancies where there is no transcript. Statistics of the latter are those of LfMmi; "soft" is the loss of
    the former. Raises as LfMmi, DataError for targets that do not fit.
    """

    def __init__(self, transcribed: LfMmi, weight: float = 1.0, targets: Targets = stored_targets) -> None:
        if not 0.0 < weight < float("inf"):
            raise ConfigError(f"the weight of soft targets is {weight}", remedy="a number above 0, such as 1")
        self.transcribed = transcribed
        self.weight = weight
        self.targets = targets

    def __call__(self, output: Mapping[str, torch.Tensor], batch: Batch) -> Loss:
        soft = [row for row, utterance in enumerate(batch.utterances) if "soft" in utterance.extra]
        hard = [row for row, utterance in enumerate(batch.utterances) if "soft" not in utterance.extra]
        value = output["logits"].new_zeros(())
        stats: Dict[str, float] = {}
        if hard:
            loss = self.transcribed(*rows_of(output, batch, hard))
            value, stats = value + loss.value, dict(loss.stats)
        if soft:
            loss = self._soft(*rows_of(output, batch, soft))
            value = value + self.weight * loss.value
            stats.update(loss.stats)
        return Loss(value=value, frames=float(batch.lengths.sum()), stats=stats)

    def _soft(self, output: Mapping[str, torch.Tensor], batch: Batch) -> Loss:
        criterion = self.transcribed
        logits, lengths = output["logits"] * criterion.output_scale, batch.lengths
        ids, values = self.targets(batch)
        occupancies = logits.new_zeros(logits.shape)
        begin = 0
        for row, length in enumerate(lengths.tolist()):
            frames = slice(begin, begin + length)
            occupancies[row, :length].scatter_(1, ids[frames], torch.softmax(values[frames], -1).to(logits.dtype))
            begin += length
        total = total_scores(criterion.denominator, logits, lengths).sum()
        value = total - (occupancies * logits).sum()
        stats = {"soft": float(value.detach())}
        if criterion.xent_regularize > 0.0:
            outputs = output.get("xent", output["logits"])
            xent = -(occupancies * torch.log_softmax(outputs, dim=-1)).sum()
            value = value + criterion.xent_regularize * xent
        if criterion.l2_output > 0.0:
            value = value + criterion.l2_output * half_square(output["logits"], inside_of(logits, lengths))
        return Loss(value=value.to(logits.dtype), frames=float(lengths.sum()), stats=stats)


def rows_of(output: Mapping[str, torch.Tensor], batch: Batch, rows: List[int]) -> Any:
    """Return output and batch of some utterances, as short as the longest of them."""
    if len(rows) == len(batch.utterances):
        return output, batch
    lengths = batch.lengths[rows]
    longest = int(lengths.max())
    outputs = {name: values[rows, :longest] for name, values in output.items()}
    pdfs = None if batch.pdfs is None else batch.pdfs[rows, :longest]
    utterances = [batch.utterances[row] for row in rows]
    ids = [batch.ids[row] for row in rows]
    return outputs, Batch(ids, batch.features[rows, :longest], lengths, pdfs, utterances)


def log_denominator_posteriors(
    known: LfMmi, logits: torch.Tensor, lengths: torch.Tensor, floor: float = -60.0
) -> torch.Tensor:
    """Returns log g [B, T, num_pdfs] of a teacher's outputs, at least `floor`."""
    with torch.no_grad():
        _, posteriors = known.denominator.forward_backward(logits * known.output_scale, lengths)
    return posteriors.float().log().clamp_min(floor)
