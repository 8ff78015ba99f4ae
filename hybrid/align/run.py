"""`hybrid align`: audio, transcripts and a lexicon in; times of words, phones and states with confidences out.

The run reads top to bottom in `run_align`. What takes long is kept as it is made (features, the training's passes, best
paths by the chunk), each under a fingerprint of what it depends on: after a kill the same command goes on.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional

from lhotse import MonoCut

from hybrid.align import aligner as engines
from hybrid.align.assemble import Reference, assemble_all
from hybrid.align.dictionary import make_lang
from hybrid.align.loop import LoopCounts, PhoneLoop
from hybrid.align.outputs import write_outputs
from hybrid.align.result import AlignedUtterance
from hybrid.align.resume import fresh, key_of
from hybrid.align.summary import Options, Result, write_summary
from hybrid.align.suspicious import rank, write_suspicious
from hybrid.config import Config
from hybrid.corpus import Corpus, read_corpus
from hybrid.gmm.align import AlignOptions
from hybrid.io import Problems, disk_errors, write_jsonl, write_text
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.lexicon import Lexicon
from hybrid.lexicon.missing import Vocabulary, cover, unknown_of
from hybrid.lexicon.transcript import Normaliser
from hybrid.parallel import wait_for_workers
from hybrid.run import Run


def run_align(options: Options) -> Result:
    """Align a corpus, from audio, transcripts and lexicon to the files in OUT, and return what came of it.

    Raises HybridError for what no utterance could be aligned without (lexicon, model).
    """
    options.check()
    start_time = time.monotonic()
    out = options.out
    run = Run(out, Config({"run": {"jobs": options.jobs}}))
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    wait_for_workers(out)
    run.log_file = out / "align.log"
    corpus = read_corpus(options.corpus, options.reading(), progress=run.progress, log=run.log)
    _log_corpus(run, corpus)
    try:
        words, vocabulary = _words(options, run, corpus)
        with run.executor() as executor:
            utterances = _align(options, run, corpus, words, vocabulary, executor) if corpus.cuts else []
    finally:
        # Also after an error that ends the run: what has been found out about the corpus stays.
        errors = [{"stage": "align", **row._asdict(), "level": "error"} for row in corpus.skipped]
        write_jsonl(out / "problems.jsonl", errors)
    result = Result(corpus.total, utterances, {row.utterance: row.reason for row in corpus.skipped})
    result.suspicions = rank(utterances)
    result.written = write_outputs(out, utterances, corpus.durations, options.formats)
    write_suspicious(out / "suspicious.tsv", result.suspicions)
    warnings = [
        {"stage": "align", "utterance": row.id, "reason": "; ".join(row.reasons), "file": None, "remedy": None,
         "level": "warning"}
        for row in result.suspicions
        if row.suspicious
    ]
    write_jsonl(out / "problems.jsonl", [*errors, *warnings])
    result.too_many = not utterances or len(result.skipped) > options.max_problems * result.total
    write_summary(options, run, result, time.monotonic() - start_time)
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
    lexicon = Lexicon.from_file(options.lexicon)
    normalise = Normaliser(lexicon, unknown=unknown_of(lexicon)[0] if options.oov == "spn" else None)
    words = {cut.id: normalise(cut.supervisions[0].text) for cut in corpus.cuts}
    counts = Counter(word for line in words.values() for word in line if word != normalise.unknown)
    policy = "g2p" if options.g2p or options.g2p_model else "leave"
    vocabulary = cover(lexicon, counts, policy, g2p_model=options.g2p_model)
    for cut in corpus.cuts:
        if not words[cut.id]:
            corpus.skip(cut.id, f"no word in the transcript {cut.supervisions[0].text[:60]!r}")
        elif options.oov == "leave" and (reason := vocabulary.why(words[cut.id])) is not None:
            corpus.skip(cut.id, reason)
    corpus.drop_skipped()
    if normalise.notes:
        examples = ", ".join(f"{note} ({count})" for note, count in normalise.notes.most_common(5))
        outcome = "left out" if normalise.unknown is None else "taken as the unknown word"
        run.log(f"{normalise.notes.total()} notes in brackets are no words, {outcome}: {examples}")
    if vocabulary.missing:
        examples = ", ".join(f"{word} ({count})" for word, count in list(vocabulary.missing.items())[:5])
        outcome = f"{len(vocabulary.made)} pronounced by G2P (g2p.txt)" if vocabulary.made else "see oov.tsv"
        pronounced = vocabulary.made or options.oov == "spn"
        remedy = "" if pronounced else "; --g2p pronounces them, --oov spn passes over them"
        run.log(f"{len(vocabulary.missing)} words are not in the lexicon, {outcome}: {examples}{remedy}")
    rows = [f"{word}\t{count}\n" for word, count in vocabulary.missing.items() if word not in vocabulary.made]
    write_text(options.out / "oov.tsv", "".join(rows))
    g2p_lines = [f"{word}\t{' '.join(item.phones)}\n" for word, items in vocabulary.made.items() for item in items]
    write_text(options.out / "g2p.txt", "".join(g2p_lines))
    return words, vocabulary


# ------------------------------------------------------------------ model, paths, times


def _align(
    options: Options, run: Run, corpus: Corpus, words: Dict[str, List[str]], vocabulary: Vocabulary, executor: Executor
) -> List[AlignedUtterance]:
    used_words = {word for cut in corpus.cuts for word in words[cut.id]}
    settings = AlignOptions(beam=options.beam, retry_beam=options.retry_beam)
    model_folders = None if options.model is None else engines.find_model(options.model)
    model_lang = None if model_folders is None else Lang.load(model_folders[1])
    lang = make_lang(vocabulary.lexicon, used_words, unknown=options.oov == "spn", like=model_lang)
    model, about = (None, engines.DEFAULT_FEATURES) if model_folders is None else engines.load(model_folders[0])
    features = options.out / "work" / "features"
    content = _features(run, corpus, about, features, options, executor)
    if not corpus.cuts:
        return []
    transcripts = {cut.id: words[cut.id] for cut in corpus.cuts}
    key = key_of(options, transcripts, content, lang, about)
    work_folder, model_folder = options.out / "work" / "paths", options.out / "model"
    fresh(work_folder, key)
    store = engines.make_store(features, transcripts, about, work_folder / "store")
    hooks: Dict[str, Any] = {"executor": executor, "log": run.log, "progress": run.progress}
    if model is None:
        fresh(model_folder, key)
        lang.save(model_folder / "lang")
        model = engines.train(lang, store, about, model_folder, options=settings, seed=options.seed, **hooks)
    aligner, reasons = engines.align(model, lang, store, work_folder, options=settings, **hooks)
    for cut in corpus.cuts:
        if cut.id in reasons:
            corpus.skip(cut.id, reasons[cut.id], _file(cut))
    corpus.drop_skipped()
    if not corpus.cuts:
        return []
    base = {number: lang.base_phone(number) for number in lang.phone_ids}
    counts = None if model_folders is None else engines.loop_counts(model_folders[0], aligner.senones, base)
    if counts is None:
        counts = LoopCounts.zeros(aligner.senones, base)
        for index in range(aligner.num_chunks):
            engines.count_chunk(counts, aligner.data.aligned(index), aligner.senones, base)
        if model_folders is None:
            counts.save(model_folder / engines.LOOP)
    loop = PhoneLoop.from_counts(counts, aligner.senones, base)
    g2p_words = set(vocabulary.made)

    def source(word: str) -> str:
        return "g2p" if word in g2p_words else "lexicon" if word in lang.lexicon and word != lang.oov else "unknown"

    references = {
        cut.id: Reference(
            cut.recording_id, int(cut.channel), str(cut.supervisions[0].speaker), cut.start, cut.end,
            transcripts[cut.id], [source(word) for word in transcripts[cut.id]],
        )
        for cut in corpus.cuts
    }  # fmt: skip
    utterances: List[AlignedUtterance] = []
    rows_of_chunks = assemble_all(aligner, loop, references, executor)
    for rows in run.progress(rows_of_chunks, total=aligner.num_chunks, desc="confidences"):
        for row in rows:
            if isinstance(row, AlignedUtterance):
                utterances.append(row)
            else:
                corpus.skip(*row)
    return utterances


def _file(cut: MonoCut) -> Optional[str]:
    sources = cut.recording.sources if cut.recording is not None else []
    return str(sources[0].source) if sources and sources[0].type == "file" else None


def _features(
    run: Run, corpus: Corpus, about: Mapping[str, Any], folder: Path, options: Options, executor: Executor
) -> str:
    """Cepstra of the corpus in `folder`; cuts without are left out of the corpus. Returns the content's fingerprint."""
    problems = Problems(options.out / "work" / "features.jsonl", "align")

    def progress(items: Iterable[Any], **settings: Any) -> Iterator[Any]:
        return run.progress(items, **{**settings, "desc": "features"})

    content = engines.make_features(
        corpus.cuts, about, folder, executor=executor, progress=progress, problems=problems
    )
    for row in problems.rows:
        corpus.skip(row["utterance"], row["reason"], row["file"], row.get("remedy"))
    corpus.drop_skipped()
    return content
