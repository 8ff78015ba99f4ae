"""`hybrid align`: audio, transcripts and a lexicon in; times of words, phones and states with confidences out.

The run reads top to bottom in `run_align`. What takes long is kept as it is made (features, the training's passes, best
paths by the chunk), each under a fingerprint of what it depends on: after a kill the same command goes on.
"""

from __future__ import annotations

import json
import shutil
import time
from concurrent.futures import Executor
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence

import numpy as np
from lhotse import MonoCut
from safetensors import safe_open

from hybrid.align import engine as engines
from hybrid.align.assemble import Aligned, assemble_all
from hybrid.align.dictionary import Vocabulary, make_lang, pronounce_missing, read_lexicon
from hybrid.align.inputs import Corpus, read_corpus
from hybrid.align.loop import LoopCounts, PhoneLoop
from hybrid.align.outputs import write_outputs
from hybrid.align.result import AlignedUtterance
from hybrid.align.resume import fresh, key_of
from hybrid.align.summary import Options, Result, write_summary
from hybrid.align.suspicious import rank, write_suspicious
from hybrid.align.words import Normaliser
from hybrid.config import Config
from hybrid.gmm.align import AlignOptions
from hybrid.io import Problems, disk_errors, load_tensors, save_tensors, write_jsonl, write_text
from hybrid.parallel import wait_for_workers
from hybrid.run import Run
from lexicon.lang import Lang


def run_align(options: Options) -> Result:
    """Everything, in order. Raises HybridError for what no utterance could be aligned without (lexicon, model)."""
    options.check()
    began = time.monotonic()
    out = options.out
    run = Run(out, Config({"run": {"jobs": options.jobs}}))
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    wait_for_workers(out)
    run.log_file = out / "align.log"
    problems = Problems(out / "problems.jsonl", "align")
    corpus = read_corpus(options.corpus, speaker_characters=options.speaker_characters)
    _log_corpus(run, corpus)
    try:
        words, vocabulary = _words(options, run, corpus)
        with run.executor() as executor:
            utterances = _align(options, run, corpus, words, vocabulary, executor) if corpus.cuts else []
    finally:
        # Also after an error that ends the run: what has been found out about the corpus stays.
        for row in corpus.left:
            problems.add(row.utterance, row.reason, row.file)
        write_jsonl(problems.path, ({**row, "level": "error"} for row in problems.rows))
    result = Result(corpus.total, utterances, {row.utterance: row.reason for row in corpus.left})
    result.suspicions = rank(utterances)
    result.written = write_outputs(out, utterances, corpus.durations, options.formats)
    write_suspicious(out / "suspicious.tsv", result.suspicions)
    warnings = [
        {"stage": "align", "utterance": row.id, "reason": "; ".join(row.reasons), "file": None, "level": "warning"}
        for row in result.suspicions
        if row.suspicious
    ]
    write_jsonl(problems.path, [*({**row, "level": "error"} for row in problems.rows), *warnings])
    result.too_many = not utterances or len(result.left) > options.max_problems * result.total
    write_summary(options, run, result, time.monotonic() - began)
    with disk_errors(out):
        shutil.rmtree(out / "work", ignore_errors=True)
    return result


def _log_corpus(run: Run, corpus: Corpus) -> None:
    seconds = sum(cut.duration for cut in corpus.cuts)
    speakers = {cut.supervisions[0].speaker for cut in corpus.cuts}
    run.log(f"{corpus.form}: {corpus.total} utterances, {seconds / 60:.1f} min, {len(speakers)} speakers")
    for note in corpus.notes[:3]:
        run.log(f"  {note}")
    if len(corpus.notes) > 3:
        run.log(f"  and {len(corpus.notes) - 3} more like that")


# ------------------------------------------------------------------ words


def _words(options: Options, run: Run, corpus: Corpus) -> tuple[Dict[str, List[str]], Vocabulary]:
    """The words of each utterance in the lexicon's spelling; utterances without any are left out, by name."""
    lexicon = read_lexicon(options.lexicon)
    normalise = Normaliser(lexicon)
    words = {cut.id: normalise(cut.supervisions[0].text) for cut in corpus.cuts}
    vocabulary = pronounce_missing(lexicon, words.values(), g2p=options.g2p, model=options.g2p_model)
    for cut in corpus.cuts:
        unknown = [word for word in words[cut.id] if word not in vocabulary.lexicon]
        if not words[cut.id]:
            corpus.leave(cut.id, f"no word in the transcript {cut.supervisions[0].text[:60]!r}")
        elif unknown and options.oov == "leave":
            named = ", ".join(dict.fromkeys(unknown))
            why = "; ".join(dict.fromkeys(vocabulary.refused[word] for word in unknown if word in vocabulary.refused))
            corpus.leave(cut.id, f"not in the lexicon: {named}" + (f" ({why})" if why else ""))
    _keep(corpus)
    if vocabulary.missing:
        first = ", ".join(f"{word} ({count})" for word, count in list(vocabulary.missing.items())[:5])
        done = f"{len(vocabulary.made)} pronounced by G2P (g2p.txt)" if vocabulary.made else "see oov.tsv"
        done_with = vocabulary.made or options.oov == "spn"
        remedy = "" if done_with else "; --g2p pronounces them, --oov spn passes over them"
        run.log(f"{len(vocabulary.missing)} words are not in the lexicon, {done}: {first}{remedy}")
    rows = [f"{word}\t{count}\n" for word, count in vocabulary.missing.items() if word not in vocabulary.made]
    write_text(options.out / "oov.tsv", "".join(rows))
    made = [f"{word}\t{' '.join(item.phones)}\n" for word, items in vocabulary.made.items() for item in items]
    write_text(options.out / "g2p.txt", "".join(made))
    return words, vocabulary


def _keep(corpus: Corpus) -> None:
    left = {row.utterance for row in corpus.left}
    corpus.cuts = [cut for cut in corpus.cuts if cut.id not in left]


# ------------------------------------------------------------------ model, paths, times


def _align(
    options: Options, run: Run, corpus: Corpus, words: Dict[str, List[str]], vocabulary: Vocabulary, executor: Executor
) -> List[AlignedUtterance]:
    needed = {word for cut in corpus.cuts for word in words[cut.id]}
    settings = AlignOptions(beam=options.beam, retry_beam=options.retry_beam)
    found = None if options.model is None else engines.find_model(options.model)
    like = None if found is None else Lang.load(found[1])
    lang = make_lang(vocabulary.lexicon, needed, unknown=options.oov == "spn", like=like)
    model, about = (None, engines.DEFAULT_FEATURES) if found is None else engines.load(found[0])
    speech = _features(options, run, corpus, about, executor)
    if not corpus.cuts:
        return []
    lines = {cut.id: words[cut.id] for cut in corpus.cuts}
    key = key_of(options, lines, speech, lang, about)
    home = options.out / "model"
    if model is None:
        fresh(home, key)
        lang.save(home / "lang")
        model = engines.train(
            lang, speech, lines, home, options=settings, seed=options.seed, executor=executor, log=run.log,
            progress=run.progress,
        )
    engine = engines.Engine(model, lang, about, settings)
    paths = _paths(options, run, engine, speech, lines, key, executor)
    for cut in corpus.cuts:
        if paths[cut.id].tids is None:
            corpus.leave(cut.id, paths[cut.id].reason, _file(cut))
    _keep(corpus)
    if not corpus.cuts:
        return []
    base = {number: lang.base_phone(number) for number in lang.phone_ids}
    counts = None if found is None else engines.loop_counts(found[0], engine.senones, base)
    if counts is None:
        counts = LoopCounts.zeros(engine.senones, base)
        for row in paths.values():
            if row.tids is not None:
                counts.add(row.tids, engine.senones, base)
        if found is None:
            counts.save(home / engines.LOOP)
    loop = PhoneLoop.from_counts(counts, engine.senones, base)
    made = set(vocabulary.made)

    def source(word: str) -> str:
        return "g2p" if word in made else "lexicon" if word in lang.lexicon else "unknown"

    todo = (
        Aligned(
            cut.id, cut.recording_id, int(cut.channel), str(cut.supervisions[0].speaker), cut.start, cut.end,
            lines[cut.id], [source(word) for word in lines[cut.id]], speech.features[cut.id],
            np.asarray(paths[cut.id].tids), paths[cut.id].loglike,
        )
        for cut in corpus.cuts
    )
    utterances: List[AlignedUtterance] = []
    chunks = -(-len(corpus.cuts) // engines.CHUNK)
    for rows in run.progress(assemble_all(engine, loop, todo, executor), total=chunks, desc="confidences"):
        for row in rows:
            if isinstance(row, AlignedUtterance):
                utterances.append(row)
            else:
                corpus.leave(*row)
    return utterances


def _file(cut: MonoCut) -> Optional[str]:
    sources = cut.recording.sources if cut.recording is not None else []
    return str(sources[0].source) if sources and sources[0].type == "file" else None


def _features(
    options: Options, run: Run, corpus: Corpus, about: Mapping[str, Any], executor: Executor
) -> engines.Speech:
    found = Problems(options.out / "work" / "features.jsonl", "align")

    def progress(items: Iterable[Any], **more: Any) -> Iterator[Any]:
        return run.progress(items, **{**more, "desc": "features"})

    speech = engines.make_features(
        corpus.cuts, about, options.out / "work" / "features", executor=executor, progress=progress, problems=found
    )
    for row in found.rows:
        corpus.leave(row["utterance"], row["reason"], row["file"])
    _keep(corpus)
    return speech


def _paths(
    options: Options, run: Run, engine: engines.Engine, speech: engines.Speech, words: Mapping[str, Sequence[str]],
    key: str, executor: Executor,
) -> Dict[str, engines.BestPath]:
    """The best path of each utterance; chunks that an earlier run of the same key has left are read."""
    folder = options.out / "work" / "paths"
    fresh(folder, key)
    ids = sorted(words)
    chunks = [ids[begin : begin + engines.CHUNK] for begin in range(0, len(ids), engines.CHUNK)]
    files = [folder / f"{number:06d}.safetensors" for number in range(len(chunks))]
    missing = [number for number, file in enumerate(files) if not file.exists()]
    todo = [identifier for number in missing for identifier in chunks[number]]
    results = run.progress(engine.align(todo, speech, words, executor), total=len(missing), desc="aligning")
    for number, rows in zip(missing, results):
        some = {row.id: row.tids for row in rows if row.tids is not None}
        notes = [[row.id, row.loglike, row.reason] for row in rows]
        save_tensors(files[number], some, {"rows": json.dumps(notes)})
    paths = {}
    for file in files:
        tensors = load_tensors(file)
        with safe_open(str(file), "numpy") as stream:
            for identifier, loglike, reason in json.loads(stream.metadata()["rows"]):
                paths[identifier] = engines.BestPath(identifier, tensors.get(identifier), loglike, reason)
    return paths
