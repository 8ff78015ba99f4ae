"""The options of `hybrid align`, for the command line: nothing heavy is imported here."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Callable

from hybrid.subcommand import add_subcommand

_ABOUT = """\
Forced alignment: when is each word, phone and HMM state of a transcript said, and how sure is it?

CORPUS is one of
  a folder    audio files (WAV, FLAC, SPHERE, Ogg, MP3, AU, CAF; with ffmpeg also m4a, WebM ...), each with a transcript
              beside it: a.wav with a.lab or a.txt, or a.TextGrid with a tier per speaker; folders are speakers
  Kaldi       a data folder: wav.scp with plain paths, text, segments and utt2spk where there are any
  Lhotse      cuts.jsonl.gz, recordings.jsonl.gz with supervisions.jsonl.gz beside it, or a Shar folder
  lhotse:NAME[/part]   one of Lhotse's recipes, on the unpacked corpus in --data DIR
LEXICON has a line a word: `WORD PH PH` (Kaldi's lexicon.txt or lexiconp.txt, CMUdict, or an MFA dictionary).
"""

_MORE = """\
Without --model, a model is trained on the corpus itself and kept in OUT/model; half an hour of speech is enough for a
usable one. Give it, or the folder of a recipe's run, with --model to align more of the same language.

example:
  hybrid align corpus/ lexicon.txt aligned/ --g2p
  hybrid align more/ lexicon.txt aligned-more/ --model aligned/

OUT gets words.ctm, phones.ctm, textgrid/, alignment.jsonl (words, phones, states, confidences), supervisions.jsonl.gz
(Lhotse), problems.jsonl (what is not aligned, and why), suspicious.tsv (transcripts ranked by how odd they are),
oov.tsv, g2p.txt, summary.json and align.log. A run that was killed goes on where it was with the same command.
"""


def add_align(commands: Any, seed: Callable[[str], int]) -> None:
    """Adds the subcommand `align` to argparse's `commands`."""
    parser = add_subcommand(
        commands, "align", "words, phones and states in time: forced alignment of a corpus", _ABOUT, _MORE
    )
    parser.add_argument(
        "corpus", type=Path, metavar="CORPUS", help="folder, Kaldi data folder, Lhotse manifest, or lhotse:NAME"
    )
    parser.add_argument("lexicon", type=Path, metavar="LEXICON", help="pronunciations")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the results; not inside CORPUS")
    parser.add_argument(
        "--model", type=Path, metavar="DIR", help="align with this model instead of training one: OUT of an earlier "
        "alignment, a run of a recipe (exp/an4), or the folder of a GMM"
    )
    parser.add_argument(
        "--format", dest="formats", default="ctm,textgrid,json,lhotse", metavar="LIST",
        help="some of ctm,textgrid,json,lhotse (all)",
    )
    parser.add_argument(
        "--speaker-characters", dest="speaker", type=int, default=0, metavar="N",
        help="the speaker is the first N characters of the file's name, not its folder",
    )
    parser.add_argument(
        "--speaker", metavar="PATTERN", default=argparse.SUPPRESS,
        help="the speaker is the first group of this regular expression in the file's name",
    )
    parser.add_argument(
        "--channel", type=int, metavar="N",
        help="of recordings with several, counted from 0 (without: what the manifest says; the tiers of a TextGrid are "
        "shared out over them; else the first)",
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="the unpacked corpus of lhotse:NAME")
    parser.add_argument(
        "--g2p", action="store_true", help="give words that the lexicon lacks a pronunciation learnt from it (g2p.txt)"
    )
    parser.add_argument("--g2p-model", type=Path, metavar="DIR", help="the same with a G2P model on disk")
    parser.add_argument(
        "--oov", default="leave", choices=("leave", "spn"), help="words without a pronunciation: leave the utterance "
        "out and name them (leave), or align them as the unknown-word phone (spn)"
    )
    parser.add_argument(
        "--max-problems", type=float, default=0.5, metavar="SHARE",
        help="exit code 1 where more of the utterances are not aligned (0.5); all output is written all the same",
    )
    parser.add_argument("--beam", type=float, default=10.0, help="of the search for the best path (10)")
    parser.add_argument("--retry-beam", type=float, default=40.0, help="where that finds none (40)")
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="seed of the training (0)")
    parser.add_argument("--jobs", type=int, default=0, metavar="N", help="worker processes (one a core)")
    parser.set_defaults(call=_align)


def _align(options: argparse.Namespace) -> int:
    from hybrid.parallel import prepare_environment

    prepare_environment()
    from hybrid.align.run import Options, run_align

    values = {name: value for name, value in vars(options).items() if name not in ("call", "version")}
    values["formats"] = tuple(name for name in options.formats.replace(",", " ").split())
    return int(run_align(Options(**values)).too_many)
