"""Stage text_models: the networks of text that second passes take, trained on transcripts and what text there is."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import Iterable, Iterator, List, Optional, Sequence

from hybrid.data.tokens import Tokens
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.lexicon import FILLERS
from hybrid.lexicon.transcript import Normaliser
from hybrid.lm.text import read_sentences
from hybrid.nnet.pretrained import pretrained_lm
from hybrid.nnet.text import TextModel
from hybrid.pipeline.recipe_run import RecipeRun
from hybrid.pipeline.sets import prepared
from hybrid.rescore.neural import perplexity
from hybrid.rescore.training import TextTraining, train_lm
from hybrid.train.schedule import ScheduleConfig

KINDS = {"lstm": "lstm_lm", "transformer": "transformer_lm", "masked": "transformer_lm"}


def text_models(run: RecipeRun, names: Sequence[str]) -> None:
    """Write EXP/text_models/NAME/model for each of lstm, transformer, masked that is asked for.

    A training that was killed goes on; dev's transcripts choose the epoch.
    """
    settings = run.settings.text_models
    text, dev = _Text(run, "train", settings.text), _Text(run, "dev")
    if settings.pieces:
        tokens = Tokens.of_pieces(text, settings.pieces)
    else:
        tokens = Tokens.of_words(text, settings.least, vocabulary=text.lexicon.words)
    run.log(f"  {len(tokens)} {'pieces' if settings.pieces else 'words'}")
    for name in run.progress(names, total=len(names), desc="text models"):
        model = getattr(settings, name)
        training = text_training(run, epochs=model.epochs, lr=model.lr)
        init: Optional[TextModel] = None
        own, kind, config = tokens, KINDS[name], {"layers": model.layers, "dropout": model.dropout}
        if name == "lstm":
            config.update(hidden=model.hidden)
        else:
            config.update(dim=model.dim, heads=model.heads, causal=name == "transformer")
        if name == "masked":
            training = replace(training, masked=model.masked)
            if model.pretrained:
                init, own = pretrained_lm(model.pretrained, text, dropout=model.dropout, seed=run.seed)
                kind, config = init.kind, init.config.to_dict()
        scorer = train_lm(kind, config, own, text, dev, run.dir("text_models") / name, training, init=init, log=run.log)
        value, count = perplexity(scorer, [words for words in dev if words])
        what = "pseudo-perplexity" if name == "masked" else "perplexity"
        run.log(f"  {name}: {what} {value:.1f} on {count} tokens of dev")


def text_training(run: RecipeRun, *, epochs: int, lr: float) -> TextTraining:
    """Return how a model of text is trained in a run."""
    settings = run.settings.text_models
    training = TextTraining(max_tokens=settings.max_tokens, seed=run.seed)
    schedule = ScheduleConfig(kind="cosine", warmup=100)
    return training.changed(epochs=epochs, lr=lr, schedule=schedule, device=run.device(settings.device))


class _Text:
    """The sentences of a set's transcripts and of files, words as the lexicon spells them, without punctuation; read
    again by each who goes through them."""

    def __init__(self, run: RecipeRun, name: str, files: Iterable[str] = ()) -> None:
        self.run, self.name = run, name
        self.files = [run.find(file) for file in files]
        self.lexicon = Lang.load(run.dir("lang")).lexicon
        self.normalise = Normaliser(self.lexicon)

    def __iter__(self) -> Iterator[List[str]]:
        cuts = prepared(self.run, self.name)
        transcripts = ([w for w in cut.supervisions[0].text.split() if w not in FILLERS] for cut in cuts)
        others = (self.normalise(" ".join(words)) for file in self.files for words in read_sentences(file))
        return chain(transcripts, ([word for word in words if any(map(str.isalpha, word))] for words in others))
