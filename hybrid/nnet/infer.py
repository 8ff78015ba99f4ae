"""From features to the log-likelihoods that decoders read."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from torch import nn

from hybrid.data.batches import Batches, Utterance
from hybrid.errors import DataError, ModelError
from hybrid.nnet.model_io import build_model, put_state, state_arrays
from hybrid.nnet.precision import outputs_in, products_in
from hybrid.nnet.priors import check_priors


def compute_loglikes(
    model: nn.Module,
    utterances: Sequence[Utterance],
    priors: Optional[np.ndarray] = None,
    *,
    executor: Optional[Executor] = None,
    device: Union[str, torch.device] = "cpu",
    precision: str = "float32",
    max_frames: int = 4000,
    head: str = "logits",
    jobs: int = 2,
) -> Dict[str, np.ndarray]:
    """Return the log-likelihoods of each utterance: id -> float32 [T, num_pdfs], natural log.

    With priors [num_pdfs] (CE-trained models): log softmax(logits) - log prior. Without (LF-MMI-trained models): the
    logits as they are, for they are log-likelihoods up to a constant per frame.
    executor: the utterances are shared out in `jobs` parts; the order and values of the result do not depend on it.
    device: where the model is. precision: of its products (precision.py).
    Raises DataError where the features do not fit the model, ModelError where the output is not finite.
    """
    if not utterances:
        return {}
    config = model.config
    dim = utterances[0].features.shape[1]
    if dim != config.input_dim:  # type: ignore[union-attr]
        raise DataError(
            f"{dim} features a frame, the model reads {config.input_dim}",  # type: ignore[union-attr]
            utterance=utterances[0].id,
            remedy="compute the features with the model's own features.json",
        )
    checked = None if priors is None else check_priors(priors, config.num_pdfs)  # type: ignore[union-attr,arg-type]
    loglikes: Dict[str, np.ndarray] = {}
    if executor is None:
        loglikes = _run(model, utterances, checked, torch.device(device), precision, max_frames, head)
    else:
        about = (str(model.kind), config.to_dict(), state_arrays(model))  # type: ignore[union-attr,operator]
        # Sorted by length and dealt out: every part costs about the same.
        order = sorted(utterances, key=lambda utterance: (-utterance.num_frames, utterance.id))
        parts = [[Utterance(u.id, u.features) for u in order[part::jobs]] for part in range(max(1, jobs))]
        futures = [
            executor.submit(_run_part, about, part, checked, str(device), precision, max_frames, head)
            for part in parts
            if part
        ]
        for future in futures:
            loglikes.update(future.result())
    return {utterance.id: loglikes[utterance.id] for utterance in utterances}


def _run_part(
    about: Tuple[str, Mapping[str, Any], Mapping[str, np.ndarray]],
    utterances: List[Utterance],
    priors: Optional[np.ndarray],
    device: str,
    precision: str,
    max_frames: int,
    head: str,
) -> Dict[str, np.ndarray]:
    kind, config, arrays = about
    model = build_model(kind, config)
    put_state(model, arrays, "the model sent to a worker")
    return _run(model.to(device), utterances, priors, torch.device(device), precision, max_frames, head)


def _run(
    model: nn.Module,
    utterances: Sequence[Utterance],
    priors: Optional[np.ndarray],
    device: torch.device,
    precision: str,
    max_frames: int,
    head: str,
) -> Dict[str, np.ndarray]:
    log_priors = None if priors is None else torch.from_numpy(np.log(priors)).float().to(device)
    was_training = model.training
    model.eval()
    loglikes: Dict[str, np.ndarray] = {}
    try:
        with torch.no_grad(), products_in(precision):
            for batch in Batches(utterances, max_frames, shuffle=False).epoch(0):
                batch = batch.to(device)
                outputs = outputs_in(precision, model, batch.features, batch.lengths)
                if head not in outputs:
                    raise ModelError(f"the model has no output {head!r}", remedy=f"one of {sorted(outputs)}")
                logits = outputs[head]
                if log_priors is not None:
                    logits = torch.log_softmax(logits, dim=-1) - log_priors
                for row, (name, length) in enumerate(zip(batch.ids, batch.lengths.tolist())):
                    utterance_loglikes = logits[row, :length].cpu().numpy().copy()
                    if not np.isfinite(utterance_loglikes).all():
                        raise ModelError("the model's output is not finite", utterance=name, remedy="train it again")
                    loglikes[name] = utterance_loglikes
    finally:
        model.train(was_training)
    return loglikes
