"""Stage lm: the n-gram that decoding uses, as ARPA file and G."""

from __future__ import annotations

import math
from typing import Dict, List, NamedTuple, Sequence, Union

import numpy as np

from hybrid.fst import write_fst
from hybrid.io import write_json
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.lexicon import FILLERS
from hybrid.lexicon.transcript import Normaliser
from hybrid.lexicon.unheard import unheard_notices
from hybrid.lm import arpa
from hybrid.lm.arrays import Columns, NgramArrays
from hybrid.lm.backoffs import restrict
from hybrid.lm.grammar import arpa_to_fst
from hybrid.lm.interpolate import interpolate, tune_weights
from hybrid.lm.load import is_arpa, read_any
from hybrid.lm.model import END, START, UNKNOWN_NAMES, NgramModel, Perplexity
from hybrid.lm.ngram import train as train_ngram
from hybrid.lm.ngram import train_arrays
from hybrid.lm.perplexity import perplexity
from hybrid.lm.prune import prune
from hybrid.pipeline.corpus_settings import PYTHON, listed
from hybrid.pipeline.language import words_of
from hybrid.pipeline.recipe_run import RecipeRun
from hybrid.pipeline.sets import prepared, texts_of

TRAIN = "train"  # as a value of corpus.lm: our own n-gram of the training transcripts
FULL = "full.safetensors"  # the model before it is pruned for the graph, for a second pass
_MARKS = {START, END, *UNKNOWN_NAMES}

Model = Union[NgramModel, NgramArrays]


class _Text(NamedTuple):
    """What n-grams see of the transcripts: train with the unknown word in it, where there is one, and dev. dev_words:
    how many words dev has, whatever the units are."""

    train: List[List[str]]
    dev: List[List[str]]
    dev_words: int


def lm(run: RecipeRun) -> None:
    """Write EXP/lm/lm.arpa, the n-gram that decoding uses, and G.fst of it; of pieces where these are the lexicon's
    words. train.arpa: our own n-gram; full.safetensors: what lm.arpa was before it was pruned; mix.json: the weights of
    several."""
    language = Lang.load(run.dir("lang"))
    transcripts, dev = texts_of(prepared(run, "train")), texts_of(prepared(run, "dev"))
    train = [_known(language, _units(language, text)) for text in transcripts.values()]
    text = _Text(train, [_units(language, line) for line in dev.values()], _count(dev))
    sources = listed(run.settings.corpus.lm)
    own = train_ngram(text.train, run.settings.lm.order, vocabulary=language.lexicon.words)
    for notice in own.notices:
        run.log(f"  our n-gram: {notice}")
    arpa.write(run.dir("lm") / "train.arpa", own)
    models: Dict[str, Model] = {TRAIN: own}
    if len(sources) > 1:
        models = _components(run, language, text, sources)
    elif sources != [TRAIN]:
        models = {sources[0]: _given(run, language, sources[0]), **models}
    for name, component in models.items():
        _log_perplexity(run, language, name, component, text)
    model = next(iter(models.values()))
    if len(sources) > 1:
        model = _mixed(run, models, text)
        _log_perplexity(run, language, "their mixture", model, text)
    reduced = _reduced(run, model)
    if reduced is not model:
        _log_perplexity(run, language, "that of the graph", reduced, text)
    arpa.write(run.dir("lm") / "lm.arpa", reduced)
    write_fst(run.dir("lm") / "G.fst", arpa_to_fst(reduced, language.words))
    if language.pieces is None and sources != [TRAIN]:
        vocabulary = reduced.vocabulary if isinstance(reduced, NgramModel) else reduced.words
        heard = words_of(transcripts)
        for notice in unheard_notices(language.lexicon, heard, language.silence_phones, vocabulary):
            run.log(f"  {notice}")


def _given(run: RecipeRun, language: Lang, name: str) -> Model:
    """The model that corpus.lm alone names: an ARPA file as it is, for G leaves out what the lexicon lacks."""
    if name == PYTHON:
        model: NgramModel = run.hook.call("lm", run)
        return model
    path = run.find(name)
    return arpa.read(path) if is_arpa(path) else respelled(run, language, name, read_any(path))


def _components(run: RecipeRun, language: Lang, text: _Text, sources: Sequence[str]) -> Dict[str, Model]:
    """The models to be mixed, of words that have a pronunciation alone."""
    models: Dict[str, Model] = {}
    for name in sources:
        if name == TRAIN:
            models[name] = train_arrays(text.train, run.settings.lm.order)
        elif name == PYTHON:
            models[name] = respelled(run, language, name, NgramArrays.from_model(run.hook.call("lm", run)))
        else:
            models[name] = respelled(run, language, name, read_any(run.find(name)))
    return models


def respelled(run: RecipeRun, language: Lang, name: str, model: NgramArrays) -> NgramArrays:
    """The model with its words as the lexicon has them (case, apostrophes), and without those that it lacks."""
    find = Normaliser(language.lexicon).find
    spelled = {word for word in model.words if word in language.lexicon or word in _MARKS}
    renamed = 0
    words = list(model.words)
    # of two words that would be one the more probable is, and the other has no pronunciation
    for place in np.argsort(-model.logprob[: model.sizes[0]], kind="stable").tolist():
        word = find(words[place])
        if words[place] not in spelled and word is not None and word not in spelled:
            words[place] = word
            spelled.add(word)
            renamed += 1
    if renamed:
        columns = [model.columns(order) for order in range(1, model.order + 1)]
        model = NgramArrays.from_columns(words, [Columns(*column) for column in columns])
        run.log(f"  {name}: {renamed} words respelled as the lexicon has them")
    missing = [word for word in model.words if word not in language.lexicon and word not in (START, END)]
    if missing:
        run.log(f"  {name}: {len(missing)} words have no pronunciation and are left out: {' '.join(missing[:10])}")
        model = restrict(model, language.lexicon.words)
    return model


def _mixed(run: RecipeRun, models: Dict[str, Model], text: _Text) -> NgramArrays:
    """The interpolation of the models, with the weights that suit the development set best."""
    arrays = [model if isinstance(model, NgramArrays) else NgramArrays.from_model(model) for model in models.values()]
    tuned = tune_weights(arrays, text.dev)
    weights = dict(zip(models, tuned.weights))
    run.log(f"  weights on dev: {', '.join(f'{name} {weight:.3f}' for name, weight in weights.items())}")
    write_json(run.dir("lm") / "mix.json", weights)
    return interpolate(arrays, tuned.weights)


def _reduced(run: RecipeRun, model: Model) -> Model:
    """The model as small as [lm] wants it for the graph; the whole one is then kept beside."""
    settings = run.settings.lm
    if not (settings.vocab or settings.prune or settings.max_ngrams):
        return model
    arrays = model if isinstance(model, NgramArrays) else NgramArrays.from_model(model)
    if settings.vocab:
        arrays = _most_probable(arrays, settings.vocab)
    small = arrays
    if settings.prune or settings.max_ngrams:
        small = prune(arrays, threshold=settings.prune, most=settings.max_ngrams)
        arrays.save(run.dir("lm") / FULL)
        run.log(f"  pruned for the graph: {_sizes(arrays)} to {_sizes(small)}")
    return small


def _most_probable(model: NgramArrays, number: int) -> NgramArrays:
    order = np.argsort(-model.logprob[: model.sizes[0]], kind="stable").tolist()
    words = [model.words[place] for place in order if model.words[place] not in (START, END)]
    return model if len(words) <= number else restrict(model, words[:number])


def _sizes(model: NgramArrays) -> str:
    return ", ".join(f"{size} {order}-grams" for order, size in enumerate(model.sizes, 1))


def _log_perplexity(run: RecipeRun, language: Lang, name: str, model: Model, text: _Text) -> None:
    arrays = isinstance(model, NgramArrays)
    result: Perplexity = perplexity(model, text.dev) if arrays else model.perplexity(text.dev)  # type: ignore
    run.log(f"  {name}: perplexity {result.perplexity:.1f} on dev, {result.oovs} words unknown to it")
    if language.pieces is not None:
        per_word = math.exp(-result.logprob / (text.dev_words + result.sentences))
        run.log(f"  {name}: that is the perplexity of a piece; of a word (known or not) it is {per_word:.1f}")


def _count(texts: Dict[str, str]) -> int:
    return sum(word not in FILLERS for text in texts.values() for word in text.split())


def _units(lang: Lang, text: str) -> List[str]:
    """Return what the n-gram sees of a transcript. A word that cannot be written in pieces stays one, unknown to it."""
    if lang.pieces is None:
        return text.split()
    units: List[str] = []
    for word in text.split():
        if word not in FILLERS:
            units += lang.pieces.encode(word) if lang.pieces.covers(word) else [word]
    return units


def _known(lang: Lang, words: List[str]) -> List[str]:
    """Return the words, those that the lexicon lacks as the unknown word, where there is one."""
    return words if lang.oov is None else [word if word in lang.lexicon else lang.oov for word in words]
