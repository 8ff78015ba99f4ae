"""Lattice-free maximum mutual information.

For an utterance with outputs x [T, num_pdfs] (unnormalised: they act as log-likelihoods without priors),

    F = log sum over paths of the numerator of  p(path) e^{x(path)}  -  the same over the denominator,

the log posterior of the transcript among all phone sequences (Povey et al. 2016, "Purely sequence-trained
neural networks for ASR based on lattice-free MMI", eq. 3 and 4). The numerator's paths are among the
denominator's, so F <= 0; F = 0 means that all mass is on the transcript. dF/dx[t, k] is the posterior of
pdf k at frame t in the numerator minus that in the denominator. Minimised is

    - mmi * F  +  smbr * (frames - Abar)  +  xent_regularize * CE  +  l2_output / 2 * sum x^2

where CE = - sum_t sum_k target[t, k] log softmax(y)[t, k], y the outputs of a second head of the network and
the target the numerator's posteriors (Kaldi's chain-xent branch), or the alignment's pdfs.

Accuracy. a[t, k] in [0, 1] says how right pdf k is in frame t: the numerator's posterior of it ("pdf", lattice-free
sMBR; Kanda et al. 2018, "Lattice-free state-level minimum Bayes risk training of acoustic models"), or of all pdfs of
its phone ("phone", MPE). Abar is the expectation over the denominator's paths of sum_t a[t, pdf_t]
(expected_accuracy.py), at most the number of frames. With boost > 0 a path of the denominator weighs e^(boost * its
errors) more, errors being 1 - a a frame (boosted MMI; Povey et al. 2008, "Boosted MMI for model and feature-space
discriminative training"): the denominator is that of the outputs x + boost (1 - a). Its paths only gain, so F <= 0
stays. a is a constant: no gradient goes through it.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping, Optional, Sequence

import numpy as np
import torch

from hybrid.device import usable_gpus
from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.train import triton_engine
from hybrid.train.ce import hard_targets
from hybrid.train.denominator import average_start
from hybrid.train.expected_accuracy import expected_accuracy
from hybrid.train.forward_backward import SharedGraph, total_scores, total_scores_and_posteriors
from hybrid.train.fsa import Fsa
from hybrid.train.graph_batch import GraphBatch
from hybrid.train.loss import Loss

ENGINES = ("auto", "triton", "sparse", "k2")


def numerator_of(utterance: Any) -> Fsa:
    """Return utterance.extra["numerator"]. Raises DataError where it is missing."""
    graph = utterance.extra.get("numerator")
    if graph is None:
        raise DataError("no numerator graph", utterance=utterance.id, remedy="run the stage that makes them again")
    return graph


class LfMmi:
    """The criterion: criterion(output, batch) -> Loss, with stats objective, num, den (sums of logs), and accuracy,
    xent, l2 where these are used.

    engine            what computes the denominator (and with "k2" the numerator too): "triton" (ours, one kernel a
                      pass, on a CUDA GPU), "sparse" (ours, torch alone, on any device), "k2"; or "auto": "triton" for
                      outputs on a CUDA GPU where Triton can run, else "sparse". All give the same numbers
    leaky             leaky-HMM coefficient of the denominator; 0 for whole utterances, Kaldi's 1e-5 for chunks
    xent_regularize   weight of CE; on output["xent"] where the network has that head, else on the logits
    xent_targets      "numerator" (its posteriors) or "alignment" (batch.pdfs)
    l2_output         Kaldi's l2-regularize: 5e-5 is usual
    output_scale      outputs are multiplied by it before they meet the graphs
    mmi, smbr         weights of the log posterior of the transcript and of the expected accuracy
    boost             of the denominator's wrong paths, a frame; 0.1 is usual
    accuracy          "pdf" or "phone": what is right, for smbr and boost
    phones            [num_pdfs], a number for each pdf: those of one phone have the same; needed for "phone"
    numerator         utterance -> its numerator graph

    Raises ConfigError for settings out of range and for an engine that cannot run here, MissingDependency for one
    that is not installed, GraphError where the denominator does not fit num_pdfs.
    When called: ConfigError for outputs on the CPU where the engine is "triton"; ModelError for outputs that are not
    finite and for a numerator that weighs more than the denominator; DataError for an utterance whose numerator does
    not fit its length.
    """

    def __init__(
        self,
        denominator: Fsa,
        num_pdfs: int,
        *,
        engine: str = "auto",
        leaky: float = 0.0,
        xent_regularize: float = 0.0,
        xent_targets: str = "numerator",
        l2_output: float = 0.0,
        output_scale: float = 1.0,
        mmi: float = 1.0,
        smbr: float = 0.0,
        boost: float = 0.0,
        accuracy: str = "phone",
        phones: Optional[Sequence[int]] = None,
        numerator: Callable[[Any], Fsa] = numerator_of,
    ) -> None:
        if engine not in ENGINES:
            raise ConfigError(f"lfmmi.engine is {engine!r}", remedy=f"use one of {', '.join(ENGINES)}")
        if xent_targets not in ("numerator", "alignment"):
            raise ConfigError(f"lfmmi.xent_targets is {xent_targets!r}", remedy='use "numerator" or "alignment"')
        if min(xent_regularize, l2_output) < 0.0 or not output_scale > 0.0:
            raise ConfigError(
                f"xent_regularize {xent_regularize}, l2_output {l2_output}, output_scale {output_scale}",
                remedy="weights are 0 or more, the scale is above 0",
            )
        if min(mmi, smbr, boost) < 0.0 or mmi + smbr == 0.0:
            raise ConfigError(f"mmi {mmi}, smbr {smbr}, boost {boost}", remedy="0 or more, and mmi or smbr above 0")
        if accuracy not in ("pdf", "phone"):
            raise ConfigError(f"lfmmi.accuracy is {accuracy!r}", remedy='use "pdf" or "phone"')
        self.groups: Optional[np.ndarray] = None
        if smbr + boost > 0.0 and accuracy == "phone":
            if phones is None or len(phones) != num_pdfs:
                raise ConfigError(
                    f"accuracy by phones for {num_pdfs} pdfs, of which the phones are not known",
                    remedy='give the phone of every pdf, or accuracy = "pdf"',
                )
            self.groups = np.unique(np.asarray(phones), return_inverse=True)[1].reshape(-1)
        if engine == "k2":
            from hybrid.train.k2_engine import import_k2

            import_k2()  # better now than in the first batch
            if leaky > 0.0:
                raise ConfigError("the k2 engine has no leaky HMM", remedy='set leaky = 0 or engine = "sparse"')
        if engine == "triton":
            triton_engine.check_usable()
        if engine == "auto":
            engine = "triton" if usable_gpus() and not triton_engine.why_not() else "sparse"
            self.any_device = True
        else:
            self.any_device = engine != "triton" or triton_engine.interpreted()
        leak_to = average_start(denominator) if leaky > 0.0 else None
        # A TritonGraph leaves outputs on the CPU to the sparse engine.
        kind = triton_engine.TritonGraph if engine == "triton" else SharedGraph
        self.denominator = kind(denominator, num_pdfs, leaky=leaky, leak_to=leak_to)
        self.num_pdfs = num_pdfs
        self.engine = engine
        self.xent_regularize = xent_regularize
        self.xent_targets = xent_targets
        self.l2_output = l2_output
        self.output_scale = output_scale
        self.mmi, self.smbr, self.boost = mmi, smbr, boost
        self.numerator = numerator

    def __call__(self, output: Mapping[str, torch.Tensor], batch: Any) -> Loss:
        logits, lengths = output["logits"], batch.lengths
        inside = inside_of(logits, lengths)
        self._check_outputs(logits, inside, batch)
        if not (logits.is_cuda or self.any_device):
            raise ConfigError(
                "the triton engine needs a CUDA GPU, and the network's outputs are on the CPU",
                remedy='train on a GPU, or set lfmmi.engine = "auto" or "sparse"',
            )
        numerators = self._numerators(batch)
        scaled = logits * self.output_scale if self.output_scale != 1.0 else logits
        posteriors: Optional[torch.Tensor] = None
        if self.engine == "k2":
            from hybrid.train.k2_engine import k2_total_scores

            total: Callable[..., torch.Tensor] = k2_total_scores
            num = total(numerators, scaled, lengths)
        else:
            total = total_scores
            num, posteriors = total_scores_and_posteriors(numerators, scaled, lengths)
        if self.smbr + self.boost > 0.0:
            if posteriors is None:
                posteriors = numerators.forward_backward(scaled, lengths)[1]
            accuracy = self._accuracy(posteriors)
        stats: Dict[str, float] = {}
        value = logits.new_zeros((), dtype=torch.float64)
        den: Optional[torch.Tensor] = None
        if self.smbr > 0.0:
            mean, den = _ExpectedAccuracy.apply(scaled, lengths, accuracy, self.denominator)
            value = value + self.smbr * (lengths.sum() - mean.sum())
            stats["accuracy"] = float(mean.detach().sum())
        if den is None or self.boost > 0.0 or self.engine == "k2":
            boosted = scaled + self.boost * (1.0 - accuracy) if self.boost > 0.0 else scaled
            den = total(self.denominator, boosted, lengths)
        objective = num - den
        self._check_objective(objective.detach(), num.detach(), batch)
        if self.mmi > 0.0:
            value = value - self.mmi * objective.sum()

        frames = float(lengths.sum())
        stats.update(
            objective=float(objective.detach().sum()), num=float(num.detach().sum()), den=float(den.detach().sum())
        )
        if self.xent_regularize > 0.0:
            xent = self._xent(output.get("xent", logits), batch, numerators, scaled, posteriors)
            value = value + self.xent_regularize * xent
            stats["xent"] = float(xent.detach())
        if self.l2_output > 0.0:
            l2 = half_square(logits, inside)
            value = value + self.l2_output * l2
            stats["l2"] = float(l2.detach())
        return Loss(value=value.to(logits.dtype), frames=frames, stats=stats)

    def _numerators(self, batch: Any) -> GraphBatch:
        graphs = []
        for utterance, frames in zip(batch.utterances, batch.lengths.tolist(), strict=True):
            graph = self.numerator(utterance)
            problem = graph.problem(frames)
            if problem:
                raise DataError(problem, utterance=utterance.id, remedy="leave it out, or mend its transcript or audio")
            graphs.append(graph)
        return GraphBatch(graphs, self.num_pdfs)

    def _accuracy(self, posteriors: torch.Tensor) -> torch.Tensor:
        """[B, T, num_pdfs]: how right each pdf is, from the numerator's posteriors of the same shape."""
        if self.groups is None:
            return posteriors
        groups = torch.as_tensor(self.groups, device=posteriors.device)
        shape = (*posteriors.shape[:2], int(self.groups.max()) + 1)
        return torch.zeros(shape).to(posteriors).index_add_(2, groups, posteriors)[:, :, groups]

    def _xent(
        self,
        outputs: torch.Tensor,
        batch: Any,
        numerators: GraphBatch,
        scaled: torch.Tensor,
        posteriors: Optional[torch.Tensor],
    ) -> torch.Tensor:
        if self.xent_targets == "alignment":
            targets = hard_targets(batch, self.num_pdfs)
            return torch.nn.functional.cross_entropy(
                outputs.flatten(0, 1), targets.flatten(), reduction="sum", ignore_index=-100
            )
        if posteriors is None:
            posteriors = numerators.forward_backward(scaled, batch.lengths)[1]
        # Posteriors are 0 in the padding, but 0 * inf is not: outputs there are finite, as they were checked.
        return -(posteriors.to(outputs.dtype) * torch.log_softmax(outputs, dim=2)).sum()

    def _check_outputs(self, logits: torch.Tensor, inside: torch.Tensor, batch: Any) -> None:
        bad = ~torch.isfinite(logits.detach()).all(2) & inside
        if bool(bad.any()):
            row, frame = (int(i) for i in torch.nonzero(bad)[0])
            raise ModelError(
                f"the network's outputs are not finite from frame {frame} on",
                utterance=batch.ids[row],
                remedy="lower the learning rate or clip the gradient harder",
            )

    def _check_objective(self, objective: torch.Tensor, num: torch.Tensor, batch: Any) -> None:
        # Rounding: every frame adds a logarithm in float32.
        limit = 1e-3 + 1e-4 * batch.lengths.to(objective) + 1e-5 * num.abs()
        wrong = ~(objective <= limit) | ~torch.isfinite(objective)
        if not bool(wrong.any()):
            return
        row = int(torch.nonzero(wrong)[0])
        name, frames = batch.ids[row], int(batch.lengths[row])
        if not bool(torch.isfinite(objective[row])):
            raise DataError(
                f"no path of {frames} frames through its numerator (log weight {float(num[row])})",
                utterance=name,
                remedy="leave the utterance out: transcript, alignment and audio do not fit",
            )
        raise ModelError(
            f"the numerator weighs more than the denominator (objective {float(objective[row]) / frames:.4f} a frame): "
            "it has paths that the denominator lacks",
            utterance=name,
            remedy="make both from one phone LM and one tree: run the stages from the phone LM on again",
        )


def inside_of(outputs: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Return what is not padding, bool [B, T], on the device of outputs [B, T, num_pdfs]."""
    return (torch.arange(outputs.shape[1])[None] < lengths[:, None].cpu()).to(outputs.device)


def half_square(outputs: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Return 1/2 sum x^2 of what is inside."""
    return 0.5 * (outputs.masked_fill(~inside[:, :, None], 0.0) ** 2).sum()


class _ExpectedAccuracy(torch.autograd.Function):
    """(Abar [B], log Z [B]), both differentiable: one pass gives both."""

    @staticmethod
    def forward(ctx, logits, lengths, accuracy, graph):  # type: ignore[no-untyped-def]
        expected = expected_accuracy(graph, logits, lengths, accuracy)
        ctx.save_for_backward(expected.gradient, expected.posteriors)
        ctx.dtype = logits.dtype
        return expected.values, expected.log_z

    @staticmethod
    def backward(ctx, of_values, of_log_z):  # type: ignore[no-untyped-def]
        gradient, posteriors = ctx.saved_tensors
        total = gradient * of_values.to(gradient.dtype)[:, None, None]
        total = total + posteriors * of_log_z.to(posteriors.dtype)[:, None, None]
        return total.to(ctx.dtype), None, None, None
