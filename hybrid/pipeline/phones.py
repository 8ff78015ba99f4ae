"""Phone sequences of sentences, for phone language models; the phones of pdfs."""

from __future__ import annotations

from typing import Any, Dict, Iterable, Iterator, List, Tuple

import numpy as np

from hybrid.lexicon.lang import Lang
from hybrid.lm import arpa
from hybrid.lm.sample import Sampler
from hybrid.pipeline.recipe_run import RecipeRun


def phones_of_pdfs(senones: Any, lang: Lang) -> List[int]:
    """Return a number for the phone of each pdf, [num_pdfs], the same at all places in a word."""
    names = [""] * senones.num_pdfs
    for pdf, phone in zip(senones.tid2pdf[1:], senones.tid2phone[1:]):
        names[pdf] = lang.base_phone(int(phone))
    numbers = {name: number for number, name in enumerate(sorted(set(names)))}
    return [numbers[name] for name in names]


def spoken(
    texts: Iterable[Tuple[str, str]], lang: Lang, seed: int, pause: float = 0.5
) -> Iterator[Tuple[str, List[int]]]:
    """Yield a phone sequence for every transcript (name, text), to train the phone LM on where there are no alignments:
    one of each word's pronunciations and, with probability `pause`, a pause at a boundary, drawn by `seed` (as Kaldi's
    e2e/prepare_phone_lm recipes do)."""
    rng = np.random.default_rng(seed)
    silence = lang.phones[lang.optional_silence]
    for name, text in texts:
        phones = [silence] if rng.random() < pause else []
        for word in lang.word_ids(text, name):
            choices = lang.pronunciation_ids(lang.word_names[word])
            phones += choices[int(rng.integers(len(choices)))]
            if rng.random() < pause:
                phones.append(silence)
        yield name, phones


def drawn(run: RecipeRun, lang: Lang, words: int, seed: int) -> Dict[str, List[int]]:
    """Return phone sequences of sentences drawn from the LM of decoding, until there are so many words.

    A denominator of the training transcripts alone lets few phones follow each other where these are few and alike; the
    network then learns to tell apart no more than that, and decoding with a weaker LM asks it for more. (That MMI wants
    a weak LM: Schlueter et al. 1999, "Interdependence of language models and discriminative training".)
    """
    sampler = Sampler(arpa.read(run.dir("lm") / "lm.arpa"), np.random.default_rng([seed, 3]))
    texts = {}
    for number, sentence in enumerate(sampler.text(words)):
        in_vocabulary = [word for word in sentence if word in lang.words]  # decoding has no others either
        texts[f"drawn-{number}"] = " ".join(lang.words_of(in_vocabulary))
    return dict(spoken(((name, text) for name, text in texts.items() if text), lang, seed, lang.silence_prob))
