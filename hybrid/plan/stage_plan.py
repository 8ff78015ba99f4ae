"""The plan of a recipe: CPU time, disk and memory of each of its stages, from the work and what it costs."""

from __future__ import annotations

from typing import Callable, Dict, List, Sequence

from hybrid.pipeline.corpus_settings import listed
from hybrid.pipeline.systems import System, chosen, gmm_steps, system
from hybrid.plan import stage_costs as costs
from hybrid.plan.decode_plan import decode, rescore, text_models
from hybrid.plan.speech_amounts import Amount
from hybrid.plan.stage_cost import StageCost, told
from hybrid.plan.workload import Workload


def _hours(amounts: Sequence[Amount]) -> float:
    return sum(amount.hours for amount in amounts)


def _utterances(amounts: Sequence[Amount]) -> float:
    return sum(amount.utterances for amount in amounts)


def plan_stages(work: Workload, names: Sequence[str]) -> List[StageCost]:
    """Return the costs of the named stages of a recipe, in their order. Those of students, whose stages are none of
    these functions, cost as `_OTHERS` says."""
    rows = []
    for name in names:
        if name in _STAGES:
            rows.append(_STAGES[name](work))
        elif name in _OTHERS:
            rows.append(_OTHERS[name](work, name))
        else:
            rows.append(_network(work, system(name)))
    return rows


def _prepare(work: Workload) -> StageCost:
    sets, corpus = work.speech.prepared, work.settings.corpus
    opus = sum(amount.opus for amount in sets)
    words = work.speech.words if corpus.lexicon else 0.0
    cpu = costs.OPUS.value * opus + costs.LEXICON.value * words + 1.0
    cpu += costs.PREPARE.value * _hours(sets) if corpus.check_audio else 0.001 * _utterances(sets)
    return StageCost("prepare", cpu, costs.CUT_DISK.value * _utterances(sets), worker_memory=0.2 * costs.WORKER.value,
                     why=told(costs.PREPARE, *([costs.OPUS] if opus else []), costs.LEXICON))  # fmt: skip


def _augment(work: Workload) -> StageCost:
    hours, utterances = _hours(work.made), _utterances(work.made)
    every = [*work.training, *work.decoded]
    return StageCost(
        "augment", costs.NOISY.value * hours + costs.NOISY_UTTERANCE.value * utterances + 2e-4 * _utterances(every),
        costs.NOISY_DISK.value * work.speech.rate / 16000 * hours + 200 * _utterances(every),
        worker_memory=costs.WORKER.value,
        why=[f"{hours:,.1f} hours of noisy and re-recorded audio",
             *told(costs.NOISY, costs.NOISY_UTTERANCE, costs.NOISY_DISK)],
    )  # fmt: skip


def _lang(work: Workload) -> StageCost:
    words = work.speech.words
    learnt = words if work.settings.corpus.oov == "g2p" else 0.0
    return StageCost(
        "lang", 0.1 + costs.LEXICON.value * words + costs.G2P.value * learnt, costs.LEXICON_DISK.value * words,
        processes=1, why=told(costs.LEXICON, *([costs.G2P] if learnt else [])),
    )  # fmt: skip


def _lm(work: Workload) -> StageCost:
    read, stay = work.read_ngrams, work.graph_ngrams
    pruned = read > 1.01 * stay or bool(work.settings.lm.prune)
    # Several models are made one and perplexities are taken of each.
    mixed = len(listed(work.settings.corpus.lm)) > 1
    memory = costs.PROCESS.value + (0.8 if mixed else 1.0) * costs.NGRAM_MEMORY.value * read
    return StageCost(
        "lm", 0.1 + costs.NGRAM.value * (read + stay),
        costs.OWN_DISK.value * work.own_ngrams + costs.NGRAM_DISK.value * stay
        + (costs.FULL_DISK.value * read if pruned else 0.0), memory=memory, processes=1,
        why=[f"{read:,.0f} n-grams read, {stay:,.0f} in the graph", *told(costs.NGRAM, costs.NGRAM_MEMORY)],
    )  # fmt: skip


def _features(work: Workload) -> StageCost:
    settings = work.settings.features
    logmel = [*work.training, *work.decoded]
    mfcc = [work.clean, *work.decoded]
    opus = work.clean.opus + sum(amount.opus for amount in work.speech.decoded)
    disk = 4.0 * costs.HOUR_FRAMES * (
        settings.mfcc.num_ceps * _hours(mfcc) + settings.logmel.num_bins * _hours(logmel)
    ) + costs.UTTERANCE_DISK.value * (_utterances(mfcc) + _utterances(logmel))  # fmt: skip
    cpu = 5.0 + costs.FEATURES.value * (_hours(mfcc) + _hours(logmel)) + 2 * costs.OPUS.value * opus
    return StageCost(
        "features", cpu, disk, memory=0.5 * costs.PROCESS.value, worker_memory=costs.WORKER.value,
        why=[f"float32: {4 * 3.6e5 * settings.logmel.num_bins / costs.MB:.0f} MB an hour of log mel, "
             f"{4 * 3.6e5 * settings.mfcc.num_ceps / costs.MB:.0f} of MFCC",
             *told(costs.FEATURES, costs.UTTERANCE_DISK)],
    )  # fmt: skip


def _gmm(work: Workload) -> StageCost:
    settings = work.settings.gmm
    hours = work.clean.hours if settings.speeds else work.speech.train.hours
    steps = [getattr(settings, name) for name in gmm_steps(work.settings)]
    passes = sum(step.passes for step in steps)
    disk = 4.0 * costs.HOUR_FRAMES * work.settings.features.mfcc.num_ceps * hours
    disk += sum(costs.GMM_DISK.value * hours + costs.GAUSSIAN_DISK.value * step.gaussians for step in steps)
    return StageCost(
        "gmm", 5.0 + costs.GMM_PASS.value * passes * hours, disk, worker_memory=costs.WORKER.value,
        why=[f"{passes} passes over {hours:,.1f} hours", *told(costs.GMM_PASS, costs.GMM_DISK)],
    )  # fmt: skip


def _senones(work: Workload) -> StageCost:
    sets = [work.clean, work.speech.dev]
    hours = _hours(sets)
    kept = costs.ALIGN_DISK.value * hours + costs.ALIGN_UTTERANCE.value * _utterances(sets)
    # One set after the other; the slowest is the longest.
    largest = work.speech.train.hours / min([1.0, *work.settings.augment.speeds])
    return StageCost(
        "senones", 1.0 + costs.ALIGN.value * hours, kept,
        scratch=largest * (4.0 * costs.HOUR_FRAMES * work.settings.features.mfcc.num_ceps + costs.GMM_DISK.value),
        worker_memory=costs.WORKER.value, why=told(costs.ALIGN, costs.ALIGN_DISK),
    )  # fmt: skip


def _network(work: Workload, row: System) -> StageCost:
    section = getattr(work.settings, row.name)
    weights, products = work.multiply_adds(row)
    epochs = section.trainer["epochs"]
    heard = epochs * work.heard(row)
    model = work.model(row)
    weight = costs.TDNNF_WEIGHT if model.kind == "tdnnf" else costs.NETWORK_WEIGHT
    an_hour = costs.NETWORK.value + weight.value * products
    why = told(costs.NETWORK, weight)
    if row.criterion == "lfmmi":
        arcs = work.denominator_arcs(row)
        an_hour += costs.SEQUENCE.value + costs.DENOMINATOR.value * arcs
        why += told(costs.SEQUENCE, costs.DENOMINATOR)
        why.append(f"{arcs:,.0f} arcs: {told(costs.DENOMINATOR_ARCS)[0]}")
    every = section.trainer["keep_every"]
    kept = max(epochs // every if every else 0, section.trainer["average"] if not every else 0, 1)
    size = 4e6 * weights
    two = model.kind != "tdnnf" and model.bidirectional and section.trainer["parallel_directions"]
    return StageCost(
        row.name, an_hour * heard, size * (4 + kept), memory=costs.TRAINING.value + 5 * size,
        processes=section.trainer["workers"] * (1.6 if two else 1.0),
        why=[f"{weights:.1f} M weights, {products:.1f} M multiply-adds a frame of 30 ms, {heard:,.0f} hours heard in "
             f"{epochs} epochs, on CPUs", *why],
    )  # fmt: skip


def _graph(work: Workload) -> StageCost:
    systems = {row.graph: row for row in chosen(work.settings)}
    ngrams = work.graph_ngrams
    arcs = [work.arcs(row) for row in systems.values()]
    return StageCost(
        "graph", 0.7 + costs.GRAPH.value * ngrams * (1 + len(systems)), costs.ARC_DISK.value * sum(arcs),
        memory=costs.PROCESS.value + costs.ARC_BUILDING.value * max(arcs), processes=1,
        why=[f"{len(systems)} graphs of {ngrams:,.0f} n-grams",
             *told(costs.GRAPH, costs.NETWORK_ARCS, costs.GMM_ARCS)],
    )  # fmt: skip


def _score(work: Workload) -> StageCost:
    return StageCost("score", costs.SCORE.value, 8e3, processes=1, why=told(costs.SCORE))


def _report(work: Workload) -> StageCost:
    return StageCost("report", costs.REPORT.value, 1e6, processes=1, why=told(costs.REPORT))


def _soft(work: Workload, name: str) -> StageCost:
    """Targets, occupancies and shards: the teacher over all clean speech, once; some 51 bytes a frame."""
    hours = sum(work.speed_hours * amount.hours for amount in (work.speech.train, work.speech.unlabelled))
    weights, products = work.multiply_adds(system("teacher_lfmmi"))
    shards = name == "shards"
    disk = 4.0 * costs.HOUR_FRAMES * work.settings.features.logmel.num_bins * _hours(work.training) if shards else 0.0
    return StageCost(
        name, costs.FORWARD_WEIGHT.value * products * hours * (0.1 if shards else 1.0),
        disk + 51.0 * costs.OUTPUT_FRAMES * hours, worker_memory=costs.WORKER.value + 4e6 * weights,
        why=[f"the teacher over {hours:,.1f} hours", "51 bytes a frame (benchmarks: targets, k = 20)",
             *told(costs.FORWARD_WEIGHT)],
    )  # fmt: skip


_STAGES: Dict[str, Callable[[Workload], StageCost]] = {
    "prepare": _prepare, "augment": _augment, "lang": _lang, "lm": _lm, "features": _features, "gmm": _gmm,
    "senones": _senones, "graph": _graph, "decode": decode, "text_models": text_models, "rescore": rescore,
    "score": _score, "report": _report,
}  # fmt: skip
_OTHERS: Dict[str, Callable[[Workload, str], StageCost]] = {"targets": _soft, "occupancies": _soft, "shards": _soft}


def peak_disk(rows: Sequence[StageCost]) -> float:
    """Return the bytes that a run has on disk at most: what stages leave, and what the one at work writes besides."""
    total, peak = 0.0, 0.0
    for row in rows:
        total += row.disk
        peak = max(peak, total + row.scratch)
    return peak
