"""Alignments as rows of words and phones, and what a lexicon learns from them: against walks whose words are known."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import gmm_tools
import hmm_tools
import numpy as np
import pytest

from hybrid.errors import DataError
from hybrid.gmm.align import Aligned
from hybrid.gmm.chunks import Data, chunk_file
from hybrid.gmm.feature_transform import FeatureTransform
from hybrid.gmm.records import learn_probs, rows
from hybrid.gmm.store import StoredUtterance

LANG = gmm_tools.make_lang()
SENONES = gmm_tools.make_senones(LANG)
SIL = LANG.silence_ids[0]
SIL_NAME = LANG.phone_names[SIL]


def _spoken(number, rng):
    """(item, tids, its words and phones as rows should say, pronunciations): pauses at random places."""
    words, phones, first = rng.choice(list(gmm_tools.WORDS), rng.integers(1, 5)).tolist(), [], []
    spelled = []
    for word in words:
        phones += [SIL] * int(rng.random() < 0.4)
        first.append(len(phones))
        spelled.append(gmm_tools.WORDS[word][rng.integers(len(gmm_tools.WORDS[word]))])
        phones += [LANG.phones[name] for name in spelled[-1].split()]
    phones += [SIL] * int(rng.random() < 0.5)
    tids, durations, _ = hmm_tools.random_walk(SENONES, phones, rng, LANG.silence_ids)
    starts = np.r_[0, np.cumsum(durations)].tolist()
    says = {
        "id": f"u{number:02d}",
        "words": [
            [word, starts[at], starts[at + len(how.split())] - starts[at]]
            for word, at, how in zip(words, first, spelled)
        ],
        "phones": [[LANG.phone_names[p], starts[n], int(d)] for n, (p, d) in enumerate(zip(phones, durations))],
    }
    item = StoredUtterance(f"u{number:02d}", f"s{number % 3}", " ".join(words), rng.normal(size=(len(tids), 2)))
    return item, tids, says, [*zip(words, spelled)]


@pytest.fixture(scope="module")
def aligned(tmp_path_factory):
    """(data, what rows should say by id, pronunciations by id); two utterances are not aligned."""
    folder = tmp_path_factory.mktemp("records")
    rng = np.random.default_rng(0)
    made = {one[0].id: one for one in (_spoken(n, rng) for n in range(40))}
    store = gmm_tools.make_store(folder / "store", [one[0] for one in made.values()], 400)
    assert store.num_chunks > 1
    for name in ("u03", "u20"):
        made[name] = (made[name][0], None, None, [])
    for index in range(store.num_chunks):
        ids = store.about(index)["ids"]
        loglike = [-float(name[1:]) for name in ids]
        Aligned.of([made[name][1] for name in ids], loglike).save(chunk_file(folder / "alignments", index))
    data = Data(store, FeatureTransform.splice(2, 0, 0), alignments=folder / "alignments")
    says = {name: one[2] for name, one in made.items() if one[1] is not None}
    return data, says, {name: one[3] for name, one in made.items()}


@pytest.mark.parametrize("workers", [None, 2])
def test_rows_say_which_words_and_phones_stand_where(aligned, workers):
    data, says, _ = aligned
    if workers is None:
        got = list(rows(data, SENONES, LANG, None))
    else:
        with ThreadPoolExecutor(workers) as executor:
            got = list(rows(data, SENONES, LANG, executor))
    assert len(got) == len(says) == 38
    order = [name for index in range(data.store.num_chunks) for name in data.store.about(index)["ids"] if name in says]
    assert [row["id"] for row in got] == order
    for row in got:
        assert row.pop("loglike") == -float(row["id"][1:])
        assert row == says[row["id"]]


@pytest.mark.parametrize("silence", [False, True])
def test_pronunciations_get_the_share_they_were_said_with(aligned, silence):
    data, _, spelled = aligned
    said = [how for one in spelled.values() for word, how in one if word == "CAB"]
    long, short = said.count("c a b"), said.count("c b")
    assert min(long, short) > 3
    learnt = learn_probs(data, SENONES, LANG, None, silence=silence)
    probs = {" ".join(p.phones): p.prob for p in learnt.lexicon.pronunciations("CAB")}
    largest = max(long, short) + 1
    assert probs["c a b"] == pytest.approx((long + 1) / largest, abs=1e-6)
    assert probs["c b"] == pytest.approx((short + 1) / largest, abs=1e-6)
    assert (learnt.silence_probs is not None) == silence
    assert (learnt.words, learnt.phones) == (LANG.words, LANG.phones)


def test_pauses_get_the_share_they_were_made_with(aligned):
    data, says, _ = aligned
    learnt = learn_probs(data, SENONES, LANG, None, silence=True)
    starts = np.mean([row["phones"][0][0] == SIL_NAME for row in says.values()])
    assert learnt.silence_probs.start == pytest.approx(starts, abs=0.05)


def test_a_training_graph_of_the_learnt_lexicon_has_a_path_for_the_same_alignments(aligned):
    data, _, _ = aligned
    learnt = learn_probs(data, SENONES, LANG, None, silence=True)
    graphs = gmm_tools.compile_graphs(learnt, SENONES, ["CAB AB", "ACE"])
    assert (graphs.start >= 0).all() and np.isfinite(graphs.weight).all()


def test_no_alignments_teach_nothing(aligned, tmp_path):
    data = aligned[0]
    for index in range(data.store.num_chunks):
        count = len(data.store.about(index)["ids"])
        Aligned.of([None] * count, np.zeros(count).tolist()).save(chunk_file(tmp_path, index))
    nothing = replace(data, alignments=tmp_path)
    assert list(rows(nothing, SENONES, LANG, None)) == []
    with pytest.raises(DataError, match="no aligned utterance") as caught:
        learn_probs(nothing, SENONES, LANG, None, silence=True)
    assert caught.value.remedy
