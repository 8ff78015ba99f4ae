"""The sections on the GMM bootstrap: passes, alignments, durations of phones, decision trees."""

from __future__ import annotations

import math
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from hybrid.errors import ConfigError, HybridError
from hybrid.hmm.tree import Split
from hybrid.io import read_json
from hybrid.report import plots, spectrogram
from hybrid.report.alignments import FRAME_MS, LEAST, Alignments, Duration, Utterance, duration_rows, read_features
from hybrid.report.gather import ReportData
from hybrid.report.html import Markup, details, join, none, soft, table, tag, warning
from hybrid.report.trees import NamedTree, depth, frequent_questions, leaf_table

_GAINS = {"mllt_gain": "MLLT", "fmllr_gain": "fMLLR"}
_BOXES = 80  # phones in one figure
_FLAGGED = 30  # phones that a warning names


# ------------------------------------------------------------------ passes


def gmm_section(data: ReportData) -> Markup:
    runs = {system: rows for system, rows in data.passes.items() if rows}
    number = {system: k for k, system in enumerate(runs)}
    loglikes, gaussians = _lines(runs, "loglike_per_frame"), _lines(runs, "gaussians")
    if not loglikes and not gaussians:
        return none("No GMM has been trained yet.")
    title = "log-likelihood a frame"
    panels: List[Tuple[str, List[plots.Line]]] = [(title, loglikes)] if loglikes else []
    figures = []
    if _apart(loglikes):
        alone: List[Tuple[str, List[plots.Line]]] = [(f"{line[0]}: {title}", [line]) for line in loglikes]
        figures.append(plots.lines(alone, "pass", styles=number))
        panels = []
    panels += [("Gaussians", gaussians)] if gaussians else []
    gains, rows, styles = _gains(runs, number)
    if gains:
        panels.append(("objective gain a frame", gains))
    figures.append(plots.lines(panels, "pass", styles={**number, **styles}))
    head = ["system", "passes", "log-likelihood a frame", "Gaussians", "retried", "failed at the end"]
    parts = [*map(Markup, figures), table(head, [_summary(*item) for item in runs.items()], numeric=range(1, 6))]
    if len(runs) > 1:
        parts.append(soft("Log-likelihoods of systems on different features (deltas, LDA and MLLT) do not compare."))
    if rows:
        text = "Gain of the auxiliary function a frame: what the transform alone adds, with the Gaussians as they are."
        parts += [table(["system", "transform", "gain in each pass (pass: gain a frame)"], rows), soft(text)]
    return join(parts)


def _lines(runs: Mapping[str, Sequence[Mapping[str, Any]]], key: str) -> List[plots.Line]:
    lines: List[plots.Line] = [(system, *_points(rows, key)) for system, rows in runs.items()]
    return [line for line in lines if line[1]]


def _points(rows: Sequence[Mapping[str, Any]], key: str) -> Tuple[List[float], List[float]]:
    points = [(float(row.get("pass", k)), float(row[key])) for k, row in enumerate(rows, 1) if _finite(row.get(key))]
    return [x for x, _ in points], [y for _, y in points]


def _apart(lines: Sequence[plots.Line]) -> bool:
    """Would one axis for all make each line flat?"""
    ranges = [(min(y), max(y)) for _, _, y in lines if len(y)]
    if len(ranges) < 2:
        return False
    together = max(high for _, high in ranges) - min(low for low, _ in ranges)
    return together > 3 * max(high - low for low, high in ranges)


def _gains(
    runs: Mapping[str, Sequence[Mapping[str, Any]]], number: Mapping[str, int]
) -> Tuple[List[plots.Line], List[List[Any]], Dict[str, int]]:
    lines: List[plots.Line] = []
    rows: List[List[Any]] = []
    styles: Dict[str, int] = {}
    for system, passes in runs.items():
        for key, name in _GAINS.items():
            x, y = _points(passes, key)
            if x:
                lines.append((f"{system} {name}", x, y))
                styles[f"{system} {name}"] = number[system]
                rows.append([system, name, ", ".join(f"{at:g}: {gain:.4f}" for at, gain in zip(x, y, strict=True))])
    return lines, rows, styles


def _summary(system: str, passes: Sequence[Mapping[str, Any]]) -> List[Any]:
    last = passes[-1]
    return [
        system,
        len(passes),
        format(last["loglike_per_frame"], ".3f") if _finite(last.get("loglike_per_frame")) else "-",
        last.get("gaussians", "-"),
        sum(int(row.get("retried") or 0) for row in passes),
        last.get("failed", "-"),
    ]


# ------------------------------------------------------------------ alignments


def alignment_section(data: ReportData) -> Markup:
    alignments = data.alignments
    if alignments is None:
        return none("No alignments yet: the gmm stage has not written gmm/alignments.jsonl.gz.")
    if not alignments.total:
        return none("gmm/alignments.jsonl.gz holds no utterance.")
    summary = f"{alignments.total} training utterances{_sampled(alignments)}"
    if alignments.loglikes:
        low, middle, high = np.quantile(alignments.loglikes, [0.05, 0.5, 0.95])
        summary += f"; log-likelihood a frame: median {middle:.2f}, 90 % between {low:.2f} and {high:.2f}"
    parts = [tag("p", f"{summary}.")]
    if len(alignments.loglikes) > 1:
        marked = {row.why: row.loglike for row in alignments.examples if row.loglike is not None}
        parts.append(Markup(plots.histogram(alignments.loglikes, marked, "log-likelihood a frame")))
    text = "Log mel, under it phones and words, with their boundaries; shaded: phones of "
    text += f"{LEAST * FRAME_MS} ms, the least that three states take. The pointer shows names, lengths and times."
    parts.append(soft(text))
    features, ticks = _spectrograms(data, alignments.examples)
    parts += [_drawn(row, features.get(row.id), ticks, f"ali{k}") for k, row in enumerate(alignments.examples)]
    if alignments.lowest:
        rows = [[row.id, _fixed(row.loglike), _seconds(row.frames), row.text] for row in alignments.lowest]
        listed = table(["utterance", "log-likelihood a frame", "length", "words"], rows, numeric=(1, 2))
        parts.append(details("The worst fits: look here for wrong transcripts", listed))
    return join(parts)


def _sampled(alignments: Alignments) -> str:
    if alignments.counted == alignments.total:
        return ""
    return f", of which {alignments.counted}, spread evenly over the file, were counted"


def _drawn(row: Utterance, logmel: Any, ticks: spectrogram.Ticks, name: str) -> Markup:
    fit = "" if row.loglike is None else f", log-likelihood a frame {row.loglike:.2f}"
    parts = [tag("h3", f"{row.id}: {row.why}"), soft(f"{_seconds(row.frames)}{fit}: {row.text or '(no words)'}")]
    if not row.frames:
        return join([*parts, none("This utterance has no frames.")])
    parts.append(tag("div", spectrogram.figure(row, logmel, ticks, name), cls="across", tabindex=0))
    frames_shown = spectrogram.shown(row)
    if frames_shown < row.frames:
        parts.append(soft(f"The first {_seconds(frames_shown)} are drawn."))
    return join(parts)


def _spectrograms(data: ReportData, utterances: Sequence[Utterance]) -> Tuple[Dict[str, np.ndarray], spectrogram.Ticks]:
    """Log mel by id and the frequencies at its axis; what is missing is said in the notes, and drawn without."""
    from hybrid.data.features import LogMel, config_from_json  # with Lhotse behind it, which takes seconds to load

    folder = data.exp / "features"
    features: Dict[str, np.ndarray] = {}
    missing = [row.id for row in utterances]
    # Copies of the training set (of other speeds) are sets of their own: train, train_sp0.9, ...
    for place in sorted(folder.glob("train*/logmel")) or [folder / "train" / "logmel"]:
        if not missing:
            break
        try:
            arrays = read_features(place, "logmel", missing)
        except HybridError as error:
            name = f"features/{place.parent.name}/logmel"
            data.notes.append(f"{name}: {error.what}: alignments are drawn without its spectrograms")
            continue
        features.update({i: values for i, values in arrays.items() if values.ndim == 2 and values.size})
        missing = [i for i in missing if i not in features]
    if missing:
        data.notes.append(f"features/train*/logmel: no spectrogram of {', '.join(missing)}")
    try:
        about = read_json(folder / "features.json")
        config = config_from_json(about["logmel"])
        if not isinstance(config, LogMel):
            raise ConfigError("its log mel are no log mel")
        high = config.high_freq + (config.sampling_rate / 2 if config.high_freq <= 0 else 0)
        return features, spectrogram.mel_ticks(config.num_bins, config.low_freq, high)
    except (HybridError, LookupError, TypeError, ValueError, ArithmeticError) as error:
        data.notes.append(f"features/features.json: {error}: spectrograms have no frequencies at their axis")
        return features, ()


# ------------------------------------------------------------------ durations


def duration_section(data: ReportData) -> Markup:
    alignments = data.alignments
    if alignments is None:
        return none("No alignments yet: durations are those of gmm/alignments.jsonl.gz.")
    rows, marked = duration_rows(alignments.durations), duration_rows(alignments.durations, positions=True)
    if not rows:
        return none("The alignments hold no phone.")
    count, utterances = sum(row.count for row in rows), f"{alignments.counted} utterances{_sampled(alignments)}"
    summary = f"{count} phones of {utterances}, at 10 ms frames."
    parts = [tag("p", summary)]
    flagged = [row for row in marked if row.flagged]
    if flagged:
        flagged.sort(key=lambda row: (-row.count, row.name))
        names = ", ".join(f"{row.name} ({row.count})" for row in flagged[:_FLAGGED])
        names += f" and {len(flagged) - _FLAGGED} more" if len(flagged) > _FLAGGED else ""
        text = f"Half or more of these are no longer than {LEAST} frames, the least that three states take: {names}. "
        text += "They may not be in the speech, be wrong in the lexicon, or be too rare to be learnt."
        parts.append(warning(text))
    box_rows = rows
    if len(rows) > _BOXES:
        frequent = {row.name for row in sorted(rows, key=lambda row: -row.count)[:_BOXES]}
        box_rows = [row for row in rows if row.name in frequent]
    quantiles = [(row.name, [FRAME_MS * frames for frames in row.quantiles], row.flagged) for row in box_rows]
    parts.append(Markup(plots.boxes(quantiles, "ms")))
    left_out = f" The {len(box_rows)} most frequent of {len(rows)} phones." if len(box_rows) < len(rows) else ""
    parts.append(soft(f"Box: the middle half; line: median; whiskers: 5 to 95 %.{left_out}"))
    parts.append(details(f"Durations ({len(rows)} phones)", _duration_table(rows)))
    if len(marked) > len(rows):
        parts.append(details(f"By place in the word ({len(marked)} phones)", _duration_table(marked)))
    return join(parts)


def _duration_table(rows: Sequence[Duration]) -> Markup:
    head = ["phone", "count", "5 %", "25 %", "median", "75 %", "95 % (ms)", f"at most {LEAST * FRAME_MS} ms"]
    return table(
        head,
        [
            [row.name, row.count, *(FRAME_MS * frames for frames in row.quantiles), _share(row.at_least, row.flagged)]
            for row in rows
        ],
        numeric=range(1, 8),
    )


def _share(share: float, flagged: bool) -> Markup:
    return tag("td", f"{100 * share:.0f} %", cls="num bad" if flagged else "num")


# ------------------------------------------------------------------ trees


def tree_section(data: ReportData) -> Markup:
    if not data.trees:
        return none("No decision tree yet.")
    head = ["system", "phones", "roots", "leaves", "deepest", "frames", "median a leaf", "fewest", "never seen"]
    rows = [[system, *_tree_row(named_tree)] for system, named_tree in data.trees.items()]
    parts = [table(head, rows, numeric=range(1, 9))]
    missing = [system for system, named_tree in data.trees.items() if named_tree.counts is None]
    if missing:
        parts.append(soft(f"No occupancy.json yet of {', '.join(missing)}."))
    curves = {system: tree.counts.tolist() for system, tree in data.trees.items() if tree.counts is not None}
    if curves:
        parts.append(Markup(plots.occupancy(curves, "leaves, by frequency")))
        if "network" in curves:
            parts.append(soft("Frames of the network's tree are of 30 ms, those of the others of 10 ms."))
    asking = [system for system, named_tree in data.trees.items() if any(depth(root.node) for root in named_tree.roots)]
    gmms = [system for system in asking if system != "network"]
    for system in asking:
        parts.append(details(system, _tree(system, data.trees[system]), open=system == (gmms or asking)[-1]))
    if not asking:
        parts.append(soft("No tree asks a question: every phone and state has one leaf."))
    return join(parts)


def _tree_row(named_tree: NamedTree) -> List[Any]:
    deepest = max((depth(root.node) for root in named_tree.roots), default=0)
    row: List[Any] = [len(named_tree.names), len(named_tree.roots), named_tree.tree.num_pdfs, deepest]
    if named_tree.counts is None:
        return [*row, "-", "-", "-", "-"]
    counts = named_tree.counts
    return [*row, *(f"{x:.0f}" for x in (counts.sum(), np.median(counts), counts.min())), int((counts == 0).sum())]


def _tree(system: str, named_tree: NamedTree) -> Markup:
    leaves = leaf_table(named_tree.roots)
    largest = dict(list(leaves.items())[:_BOXES])
    bars = {
        name: {"all states" if state is None else f"state {state}": count for state, count in states.items()}
        for name, states in largest.items()
    }
    parts = [tag("h4", "Leaves per phone and state"), Markup(plots.stacked(bars, "leaves", system))]
    if system == "network":
        parts.append(soft("Of one state: 0 is the pdf of a phone's first frame, 1 that of the others."))
    if len(largest) < len(leaves):
        parts.append(soft(f"The {len(largest)} of {len(leaves)} phones with most leaves."))
    counted = named_tree.counts is not None
    total = max(float(named_tree.counts.sum()), 1.0) if named_tree.counts is not None else 1.0
    question_rows = [
        [
            tag("td", named_tree.text(entry.question)),
            entry.first,
            entry.second,
            f"{100 * entry.frames / total:.1f} %" if counted else "-",
        ]
        for entry in frequent_questions(named_tree)
    ]
    parts += [
        tag("h4", "The most frequent questions near the roots"),
        table(["question", "first of a root", "second", "frames that meet it"], question_rows, numeric=(1, 2, 3)),
    ]
    rows = []
    for root in named_tree.roots:
        first = named_tree.text(named_tree.question(root.node)) if isinstance(root.node, Split) else "-"
        frames = f"{named_tree.frames(root.pdfs):.0f}" if counted else "-"
        rows.append([root.name, "-" if root.state is None else root.state, len(root.pdfs), frames, first])
    listed = table(["phone", "state", "leaves", "frames", "first question"], rows, numeric=(1, 2, 3))
    parts.append(details(f"First question of each of the {len(rows)} roots", listed))
    return join(parts)


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _seconds(frames: int) -> str:
    return f"{frames * FRAME_MS / 1000:.1f} s"


def _fixed(value: Any) -> str:
    return f"{value:.2f}" if _finite(value) else "-"
