"""Stages lang and lm."""

from __future__ import annotations

from hybrid.errors import ConfigError, DataError
from hybrid.fst import write_fst
from hybrid.pipeline.recipe import Recipe
from hybrid.pipeline.sets import prepared, texts_of
from hybrid.run import Run
from lexicon.lang import Lang
from lexicon.lexicon import check_text
from lm import arpa
from lm.grammar import arpa_to_fst
from lm.model import NgramModel
from lm.ngram import train as train_ngram


def lang(run: Run, recipe: Recipe) -> None:
    """EXP/lang: phones, words, lexicon and L. A training word without pronunciation stops the stage, by name."""
    settings = run.config.section("lang")
    lexicon = recipe.lexicon(run)
    for notice in lexicon.notices:
        run.log(f"  {notice}")
    missing = check_text(lexicon, texts_of(prepared(run, "train")))
    if missing:
        names = ", ".join(f"{oov.word} ({oov.count})" for oov in missing[:10])
        raise DataError(
            f"{len(missing)} words of the training transcripts have no pronunciation: {names}",
            utterance=missing[0].utterances[0],
            remedy="add them to the lexicon",
        )
    for split in ("dev", "test"):
        for oov in check_text(lexicon, texts_of(prepared(run, split))):
            run.log(f"  {split}: {oov.word} ({oov.count}) is not in the lexicon: it can only be an error")
    made = Lang.create(
        lexicon,
        silence=settings["silence"],
        position_dependent=settings["position_dependent"],
        silence_prob=settings["silence_prob"],
    )
    made.save(run.dir("lang"))
    run.log(f"  {len(lexicon)} words, {len(made.phone_ids)} phones")


def lm(run: Run, recipe: Recipe) -> None:
    """EXP/lm/lm.arpa, the n-gram that decoding uses, and G.fst of it."""
    source = run.config["lm.source"]
    words = Lang.load(run.dir("lang"))
    train = [text.split() for text in texts_of(prepared(run, "train")).values()]
    ours = train_ngram(train, int(run.config["lm.order"]), vocabulary=words.lexicon.words)
    for notice in ours.notices:
        run.log(f"  our n-gram: {notice}")
    arpa.write(run.dir("lm") / "train.arpa", ours)
    models = {"corpus": lambda: recipe.grammar(run), "train": lambda: ours}
    if source not in models:
        raise ConfigError(f"lm.source is {source!r}", remedy="use corpus (the recipe's own) or train (ours)")
    model: NgramModel = models[source]()
    arpa.write(run.dir("lm") / "lm.arpa", model)
    write_fst(run.dir("lm") / "G.fst", arpa_to_fst(model, words.words))
    dev = [text.split() for text in texts_of(prepared(run, "dev")).values()]
    for name, one in {source: model, "train": ours}.items():
        found = one.perplexity(dev)
        run.log(f"  {name}: perplexity {found.perplexity:.1f} on dev, {found.oovs} words unknown to it")
