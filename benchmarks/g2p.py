"""How well are unknown words pronounced? G2P on a held-out tenth of a lexicon, for several n-gram orders.

    python -m benchmarks.g2p LEXICON [--orders 4 5 6 7 8] [--strip-stress] [--held-out 10] [--seed 0] [--limit N]

Every tenth word (of a seeded shuffle) is held out with all its pronunciations. A word is right where the best
pronunciation is one of the lexicon's (WER); phone errors are counted against the nearest of them, per phone of that
one (PER). LEXICON is any that Lexicon reads; CMUdict's own file too (`cmudict.dict`: comments after #).
--strip-stress takes the digits from the phones' ends: AH0 becomes AH. Words that cannot be spelled with the letters
of the training words count as wrong, with all their phones as errors. Seconds are of one core (CPU time).
Published, on other splits of CMUdict without stress: 24.5 % WER, 5.9 % PER (Bisani and Ney 2008, 9-gram with EM of the
whole model); Phonetisaurus 24 to 25 % WER (Novak et al. 2016, 8-gram).

Measured on CMUdict as the package cmudict 1.1.3 has it, --strip-stress, seed 0, 12,606 words held out:

    order   WER %   PER %    n-grams
        4   30.37    7.42     215388
        6   26.34    6.47     792668
        8   25.99    6.36    1339307
"""

from __future__ import annotations

import argparse
import random
import re
import resource
import time
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from hybrid.errors import DataError
from hybrid.lexicon.g2p import G2P
from hybrid.lexicon.lexicon import Lexicon
from hybrid.score.wer import align, count


def read(path: str, strip_stress: bool) -> Lexicon:
    """A lexicon in any format of Lexicon.from_file; CMUdict's comments and stress digits taken off."""
    if not path.endswith(".dict") and not strip_stress:
        return Lexicon.from_file(path)
    entries: Dict[str, List[Tuple[str, ...]]] = {}
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        fields = re.sub(r"(^| )#.*", "", line).split()
        if not fields or fields[0].startswith(";;;"):
            continue
        phones = tuple(re.sub(r"[0-9]+$", "", phone) if strip_stress else phone for phone in fields[1:])
        known = entries.setdefault(re.sub(r"\([0-9]+\)$", "", fields[0]), [])
        if phones not in known:
            known.append(phones)
    return Lexicon.from_dict(entries)


def split(lexicon: Lexicon, parts: int, seed: int) -> Tuple[Lexicon, Lexicon]:
    """(train, held out): every `parts`-th word of a seeded shuffle is held out."""
    words = lexicon.words
    random.Random(seed).shuffle(words)
    held = words[::parts]
    rest = {*words} - {*held}
    return (
        Lexicon({word: lexicon.pronunciations(word) for word in lexicon.words if word in rest}),
        Lexicon({word: lexicon.pronunciations(word) for word in held}),  # shuffled: the first N are a fair sample
    )


def measure(model: G2P, lexicon: Lexicon, words: Sequence[str], beam: float, active: int) -> Tuple[float, float]:
    """(WER, PER) in percent."""
    wrong = errors = phones = 0
    for word in words:
        try:
            found: Sequence[str] = model.pronounce(word, beam=beam, max_active=active)[0].phones
        except DataError:
            found = ()
        counts = [count(align(item.phones, found)) for item in lexicon.pronunciations(word)]
        nearest = min(counts, key=lambda item: (item.errors, -item.words))
        wrong += nearest.errors > 0
        errors += nearest.errors
        phones += nearest.words
    return 100.0 * wrong / len(words), 100.0 * errors / phones


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lexicon")
    parser.add_argument("--orders", type=int, nargs="+", default=[4, 5, 6, 7, 8])
    parser.add_argument("--strip-stress", action="store_true")
    parser.add_argument("--held-out", type=int, default=10, help="every N-th word")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="score only N of the held-out words")
    parser.add_argument("--beam", type=float, default=8.0)
    parser.add_argument("--active", type=int, default=30)
    options = parser.parse_args(arguments)
    train, held = split(read(options.lexicon, options.strip_stress), options.held_out, options.seed)
    words = held.words[: options.limit]
    print(f"{len(train)} words to train on, {len(words)} of {len(held)} held out are scored")
    print(f"{'order':>5} {'WER %':>7} {'PER %':>7} {'n-grams':>9} {'train s':>8} {'words/s':>8} {'peak MB':>8}")
    for order in options.orders:
        begin = time.process_time()
        model = G2P.train(train, order=order)
        trained = time.process_time()
        wer, per = measure(model, held, words, options.beam, options.active)
        seconds = time.process_time() - trained
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{order:5} {wer:7.2f} {per:7.2f} {len(model.model.arrays['token']) - 1:9} {trained - begin:8.1f} "
            f"{len(words) / seconds:8.0f} {peak:8.0f}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
