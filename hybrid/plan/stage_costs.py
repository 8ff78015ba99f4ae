"""What each stage of a recipe costs, in CPU seconds, bytes and memory, as measured on this project's own runs.

Where the numbers are from: marks of finished runs (EXP/marks: CPU seconds, files, peak memory) on one machine with two
cores, other work beside, worker processes of one thread:

    AN4             0.63 hours of training speech at 3 speeds, 12 noisy copies; LSTMs of 4.3 M weights, 7 epochs
    speechocean762  2.58 hours, 6 noisy copies, 130,000 words, 3.8 M n-grams; CE of a TDNN-F of 1.2 M weights. Its gmm
                    and senones are left out: workers were then handed the whole lexicon, which took most of the time
    demo            0.53 hours, 1 noisy copy; LSTMs of 1.2 M weights, 12 and 3 epochs
    benchmarks      benchmarks/README.md: graphs of 200,000 words, the denominator, searches of large graphs

They hold for the shape of a stage, and for such a machine: `hybrid plan --measured EXP` has those of another.
"""

from __future__ import annotations

from dataclasses import dataclass

HOUR_FRAMES = 360_000  # of 10 ms
OUTPUT_FRAMES = 120_000  # of 30 ms: those of networks
MB = 1e6


@dataclass(frozen=True)
class Cost:
    """A number that a plan rests on. value: in `unit`; source: where it was measured."""

    value: float
    unit: str
    source: str


# ------------------------------------------------------------------ prepare, augment, features

PREPARE = Cost(4.5, "CPU s an hour of speech", "AN4: every file read to its end")
OPUS = Cost(10.0, "CPU s more an hour of Opus read", "speechocean762: prepare and features beside AN4's")
LEXICON = Cost(6.5e-5, "CPU s a word and reading", "speechocean762: lang, 130,000 words")
CUT_DISK = Cost(40, "bytes an utterance and manifest", "AN4, speechocean762: prepare")
LEXICON_DISK = Cost(39, "bytes a word", "speechocean762: lang")
G2P = Cost(1.9e-4, "CPU s a word learnt from", "benchmarks: g2p, order 8")
NOISY = Cost(14.8, "CPU s an hour of noisy speech", "AN4 and speechocean762: augment, two equations")
NOISY_UTTERANCE = Cost(0.038, "CPU s a noisy utterance", "likewise: its room")
NOISY_DISK = Cost(73.0 * MB, "bytes an hour, 16 kHz FLAC", "AN4 71, speechocean762 73, demo 76: augment")
FEATURES = Cost(6.5, "CPU s an hour and kind of features", "AN4: features")
UTTERANCE_DISK = Cost(2_000, "bytes an utterance and set beside its frames", "AN4, speechocean762: features")

# ------------------------------------------------------------------ Gaussians, alignments

GMM_PASS = Cost(1.75, "CPU s an hour and pass", "AN4 1.6 of 145 passes, demo 1.9 of 80, speechocean762 1.6 of 75")
GMM_DISK = Cost(2.1 * MB, "bytes an hour and step", "AN4, speechocean762: graphs and alignments in gmm")
GAUSSIAN_DISK = Cost(1_460, "bytes a Gaussian and step", "AN4, speechocean762: models and the state to resume from")
ALIGN = Cost(27.0, "CPU s an hour of clean speech", "AN4 25, demo 28: senones")
ALIGN_DISK = Cost(1.92 * MB, "bytes an hour", "two numbers a frame of 30 ms")
ALIGN_UTTERANCE = Cost(2_500, "bytes an utterance", "speechocean762: senones")

# ------------------------------------------------------------------ language model, graphs

NGRAM = Cost(5.5e-6, "CPU s an n-gram", "speechocean762: lm, 3.8 M; benchmarks: reading and writing ARPA")
OWN_NGRAMS = Cost(1.0, "n-grams of our own a running word, and the lexicon's words", "AN4, speechocean762: train.arpa")
OWN_DISK = Cost(22, "bytes an n-gram of our own", "AN4, speechocean762: train.arpa")
WORDS_AN_HOUR = Cost(7_200, "words an hour of speech", "AN4 7,700, speechocean762 5,600, demo 9,100")
NGRAM_DISK = Cost(41, "bytes an n-gram of the graph", "speechocean762: lm.arpa and G.fst")
FULL_DISK = Cost(12.5, "bytes an n-gram of the whole model", "speechocean762: full.safetensors")
NGRAM_MEMORY = Cost(245, "bytes an n-gram", "benchmarks: ARPA as dictionaries")
GRAPH = Cost(1.0e-5, "CPU s an n-gram and graph", "benchmarks: graphs of 200,000 words, 3.8 M n-grams")
NETWORK_ARCS = Cost(3.5, "arcs an n-gram", "likewise: network.fst, 15.5 M arcs of 200,000 words; AN4 1,650 of 105")
NETWORK_WORD_ARCS = Cost(12, "arcs a word", "likewise")
GMM_ARCS = Cost(10, "arcs an n-gram", "likewise: tri1.fst, 42.6 M arcs of 200,000 words; AN4 3,000 of 105")
GMM_WORD_ARCS = Cost(20, "arcs a word", "likewise")
ARC_DISK = Cost(20, "bytes an arc", "AN4: graph")
ARC_BUILDING = Cost(55, "bytes an arc while the graph is made", "benchmarks: 2.1 GB more for 42.6 M arcs")
ARC_MEMORY = Cost(95, "bytes an arc while it is loaded", "benchmarks: 4.0 GB for tri1's 42.6 M arcs")

# ------------------------------------------------------------------ networks

NETWORK = Cost(9.7, "CPU s an hour heard", "CE of AN4 (75 s an hour) and demo (28), two equations")
NETWORK_WEIGHT = Cost(15.3, "CPU s an hour heard and million multiply-adds a frame", "likewise: 46 GFLOP/s")
TDNNF_WEIGHT = Cost(12.3, "CPU s an hour heard and million multiply-adds a frame, TDNN-F",
                    "two sizes side by side; speechocean762: ce, 27.6 s an hour of 1.8 M")  # fmt: skip
SEQUENCE = Cost(10.0, "CPU s an hour heard, LF-MMI beside CE", "AN4 and demo: lfmmi; benchmarks: memory, numerators")
DENOMINATOR = Cost(2.5e-5, "CPU s an hour heard and arc", "speechocean762: lfmmi 41 CPU s an hour, ce 22")
DENOMINATOR_ARCS = Cost(2.4, "arcs a state of the phone LM and phone", "speechocean762: 386,309 of 790 and 157")
SPARSE_ARCS = Cost(0.06, "times that where the phone LM is not interpolated", "AN4: 4,824 arcs")
PHONES, STRESSED, POSITIONS = 39, 69, 4  # of English: ARPAbet without stress and with it; begin, inside, end, alone
FORWARD_WEIGHT = Cost(5.1, "CPU s an hour and million multiply-adds", "a third of training")

# ------------------------------------------------------------------ decoding

SEARCHES = Cost(4, "searches of a set that scales are chosen on, confidences among them", "decode/tuning.py")
GMM_SEARCH = Cost(49.0, "CPU s an hour searched, 3,000 active, small graph", "AN4: decode, two thirds noise and rooms")
NETWORK_SEARCH = Cost(5.0, "CPU s an hour searched, 3,000 active, small graph", "AN4: decode")
ACTIVE = Cost(0.7, "share of a search that grows with decode.max_active", "AN4 with 3,000, demo with 1,000: decode")
LARGE_SEARCH = Cost(3.4, "times that in a graph of 1 M arcs and more", "benchmarks: searches of 20,000 words and more")
LARGE_ARCS = 1_000_000
SECOND_PASS = Cost(5.5, "times a search, its lattice determinised and gone over", "speechocean762: rescore, 643 CPU s")
TEXT = Cost(1.0e-4, "CPU s a word and million multiply-adds", "half of what networks of speech reach")
SENTENCE = Cost(10, "words a sentence: forward passes of a masked model", "speechocean762 6.4, LibriSpeech 33")
HYPOTHESES_DISK = Cost(1.1 * MB, "bytes an hour and system", "AN4: decode")

# ------------------------------------------------------------------ memory

PROCESS = Cost(900 * MB, "bytes of the main process", "speechocean762, demo: marks of prepare, lang, graph")
WORKER = Cost(400 * MB, "bytes a worker", "AN4, speechocean762, demo: marks of augment and gmm")
TRAINING = Cost(900 * MB, "bytes of a training, but for its parameters", "demo: marks of ce and lfmmi")
SCORE = Cost(0.45, "CPU s", "AN4 0.3, demo 0.8: score")
REPORT = Cost(9.0, "CPU s", "AN4 8, demo 13: report")
