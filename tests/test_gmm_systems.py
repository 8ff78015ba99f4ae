"""Monophones from a flat start and triphones: what they learn, what they refuse, kills; real speech."""

from __future__ import annotations

from dataclasses import replace

import gmm_tools
import numpy as np
import pytest

from hybrid.data.audio import load_samples
from hybrid.data.features import FeatureExtractor, Mfcc
from hybrid.errors import DataError
from hybrid.gmm import deltas, lda_mllt, mono, sat
from hybrid.gmm.align import Aligned, AlignOptions
from hybrid.gmm.bootstrap import monophone_senones
from hybrid.gmm.chunks import Data, chunk_file
from hybrid.gmm.feature_transform import FeatureTransform
from hybrid.gmm.passes import align_all
from hybrid.gmm.store import Store, StoredUtterance
from hybrid.gmm.trees import TreeOptions, compile_all, position_questions, tree_stats
from hybrid.hmm.alignment import phone_segments
from hybrid.hmm.build_tree import TreeStats
from hybrid.io import read_jsonl
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.lexicon import Lexicon

LANG = gmm_tools.make_lang()
SILENT = LANG.silence_ids
ITEMS = gmm_tools.speech(LANG, 20)


def _rows(folder):
    return read_jsonl(folder / "passes.jsonl")


def test_the_schedules_are_kaldis():
    opts = mono.options()
    assert (opts.passes, opts.gaussians, opts.last_increase) == (40, 1000, 30)
    # steps/train_mono.sh: realign_iters
    assert opts.realign == tuple(map(int, "1 2 3 4 5 6 7 8 9 10 12 14 16 18 20 23 26 29 32 35 38".split()))
    for system in (deltas, lda_mllt, sat):
        opts = system.options()
        assert (opts.passes, opts.realign, opts.last_increase) == (35, (10, 20, 30), 25)
    assert (deltas.options().mllt, deltas.options().fmllr, deltas.options().power) == ((), (), 0.25)
    # mllt_iters of steps/train_lda_mllt.sh, fmllr_iters of steps/train_sat.sh
    assert (lda_mllt.options().mllt, lda_mllt.options().fmllr, lda_mllt.options().power) == ((2, 4, 6, 12), (), 0.2)
    assert (sat.options().mllt, sat.options().fmllr, sat.options().power) == ((), (2, 4, 6, 12), 0.2)
    assert mono.options(passes=5).realign == (1, 2, 3, 4)
    assert mono.options(passes=5).last_increase == 1
    assert deltas.options(passes=20, power=0.2).realign == (10,)
    assert sat.options(passes=5).fmllr == (2, 4)
    # gmm-align-compiled in steps/train_mono.sh
    assert AlignOptions() == AlignOptions(0.1, 1.0, 0.1, 10.0, 40.0)


# -- monophones -------------------------------------------------------------------------------------------------------


def _mono(folder, data, passes=8, gaussians=30):
    return mono.train_mono(
        gmm_tools.make_senones(LANG), data, mono.options(passes=passes, gaussians=gaussians),
        gmm_tools.quiet(folder, LANG),
    )


def _data(folder, items=ITEMS, chunk_frames=60_000):
    return gmm_tools.make_data(folder / "data", LANG, gmm_tools.make_senones(LANG), items, chunk_frames)


def test_monophones_learn_the_phones_from_nothing_but_transcripts(tmp_path):
    model, data = _mono(tmp_path, _data(tmp_path))
    rows = _rows(tmp_path)
    assert rows[-1]["loglike_per_frame"] > rows[0]["loglike_per_frame"] + 1.0
    data, result = align_all(model, data, AlignOptions(), gmm_tools.quiet(tmp_path), tmp_path / "alignments.final")
    assert not result.failed
    for item in ITEMS[:3]:
        phones, _ = phone_segments(gmm_tools.alignments(data)[item.id], model.senones)
        spelled = [LANG.phone_names[p] for p in phones.tolist() if p not in SILENT]
        assert "".join(spelled).startswith(gmm_tools.WORDS[item.text.split()[0]][0][0])


def test_training_on_what_is_too_short_is_refused(tmp_path):
    data = _data(tmp_path, [item._replace(features=item.features[:2]) for item in ITEMS[:2]])
    with pytest.raises(DataError, match="none of 2 utterances") as caught:
        _mono(tmp_path, data)
    assert caught.value.remedy


def test_a_feature_that_never_changes_does_no_harm(tmp_path):
    still = [
        item._replace(features=np.c_[item.features, np.full(len(item.features), 5.0)].astype(np.float32))
        for item in ITEMS
    ]
    model, _ = _mono(tmp_path, _data(tmp_path, still), passes=3)
    assert np.isfinite(model.gmms.means).all()
    assert model.gmms.variances[:, -1] == pytest.approx(1e-3)


# -- triphones --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def by_left(tmp_path_factory):
    """Speech whose phones depend on their left neighbour, in chunks; its monophones and their alignments."""
    folder = tmp_path_factory.mktemp("left")
    data = _data(folder, gmm_tools.speech(LANG, count=50, seed=1, by_left=3.0, language=1), 1500)
    assert data.store.num_chunks > 1
    model, data = _mono(folder / "mono", data)
    data, _ = align_all(model, data, AlignOptions(), gmm_tools.quiet(folder), folder / "alignments.final")
    return folder, model, data


def _triphones(folder, simpler, data, **more):
    context = gmm_tools.quiet(folder, LANG, **more)
    options = deltas.options(passes=6, gaussians=60)
    return deltas.train_deltas(simpler.senones, data, LANG, TreeOptions(60, 20.0), options, context)


@pytest.fixture(scope="module")
def triphones(by_left, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tri")
    return folder, *_triphones(folder, *by_left[1:])


def test_triphones_find_what_depends_on_the_neighbour(by_left, triphones):
    mono_folder, simpler, _ = by_left
    folder, model, data = triphones
    tree = model.senones.tree
    assert (tree.context_width, tree.central_position) == (3, 1)
    assert model.senones.num_pdfs > simpler.senones.num_pdfs
    # "b" comes after "a" and after "c"
    a, b, c = (LANG.phones[name] for name in "abc")
    assert tree.pdf([a, b, 0], 1) != tree.pdf([c, b, 0], 1)
    assert len({tree.pdf([left, SILENT[0], 0], 1) for left in (0, a, b, c)}) == 1
    assert _rows(folder)[-1]["loglike_per_frame"] > _rows(mono_folder / "mono")[-1]["loglike_per_frame"] + 0.3
    _, result = align_all(model, data, AlignOptions(), gmm_tools.quiet(folder), folder / "alignments.final")
    assert not result.failed


class _Killed(BaseException):
    pass


def _dies_after_three(iterable, **_):
    for number in iterable:
        if number > 3:
            raise _Killed
        yield number


def test_triphones_are_the_same_again_after_a_kill(by_left, triphones, tmp_path):
    with pytest.raises(_Killed):
        _triphones(tmp_path, *by_left[1:], progress=_dies_after_three)
    again, _ = _triphones(tmp_path, *by_left[1:])
    np.testing.assert_array_equal(again.gmms.means, triphones[1].gmms.means)
    np.testing.assert_array_equal(again.senones.log_probs, triphones[1].senones.log_probs)
    assert again.senones.tree == triphones[1].senones.tree


def _without(data, gone, folder):
    """The data with alignments that lack some utterances."""
    for index in range(data.store.num_chunks):
        found, ids = data.aligned(index), data.store.about(index)["ids"]
        kept = [None if name in gone else tids for name, tids in zip(ids, found.each())]
        Aligned.of(kept, found.loglike).save(chunk_file(folder, index))
    return replace(data, alignments=folder)


def test_an_utterance_that_the_monophones_lost_takes_no_part_in_the_tree(by_left, tmp_path):
    _, simpler, data = by_left
    frames = len(gmm_tools.alignments(data)["u000"])
    model, _ = _triphones(tmp_path / "tri", simpler, _without(data, {"u000"}, tmp_path / "fewer"))
    rows = _rows(tmp_path / "tri")
    assert rows[0]["frames"] == data.store.frames - frames
    assert rows[0]["failed"] == 1
    assert model.gmms.num_pdfs == model.senones.num_pdfs


@pytest.mark.parametrize("part", ["first chunks", "all"])
def test_chunks_without_an_alignment_are_borne_and_none_at_all_is_refused(by_left, tmp_path, part):
    _, simpler, data = by_left
    chunks = range(data.store.num_chunks)[: None if part == "all" else -1]
    gone = {name for index in chunks for name in data.store.about(index)["ids"]}
    fewer = _without(data, gone, tmp_path / "fewer")
    if part == "first chunks":
        stats = tree_stats(fewer, simpler.senones, gmm_tools.quiet(tmp_path))
        assert stats.sums[:, 0].sum() == sum(map(len, data.aligned(chunks[-1] + 1).each()))
        return
    with pytest.raises(DataError) as caught:
        _triphones(tmp_path / "tri", simpler, fewer)
    assert caught.value.remedy


def test_statistics_of_a_tree_add_up_over_chunks(by_left):
    """Each event once, in whatever chunks its frames were."""
    _, simpler, data = by_left
    stats = tree_stats(data, simpler.senones, gmm_tools.quiet(by_left[0]))
    events = list(map(tuple, np.c_[stats.windows, stats.classes].tolist()))
    assert len(events) == len(set(events))
    assert stats.sums[:, 0].sum() == data.store.frames
    none = TreeStats.from_frames(np.zeros((0, 3), int), np.zeros(0, int), np.zeros((0, 4), np.float32))
    again = (none + none).merged() + stats
    np.testing.assert_allclose(again.merged().sums, stats.sums)


def test_positions_in_a_word_are_asked_about():
    plain = Lexicon.from_dict(gmm_tools.WORDS)
    assert position_questions(LANG if not LANG.position_dependent else Lang.create(plain)) == []
    lang = Lang.create(plain, position_dependent=True)
    places = position_questions(lang)
    assert sorted(phone for place in places for phone in place) == sorted(set(lang.phone_ids) - set(lang.silence_ids))
    for place in places:
        assert len({lang.phone_names[phone].rpartition("_")[2] for phone in place}) == 1
    assert len(places) == 4


# -- real speech ------------------------------------------------------------------------------------------------------


def test_sixty_real_utterances(shared_data, tmp_path):
    """AN4: the likelihood of real speech rises over the passes, for monophones and then for triphones."""
    from hybrid.io import Problems
    from hybrid.recipes.an4.prepare import prepare_an4

    root = shared_data / "an4"
    sets = prepare_an4(shared_data, Problems(tmp_path / "problems.jsonl", "test"))
    cuts = [cut for cut in sets["train"] if cut.duration < 2.5][:60]
    cepstra = FeatureExtractor(Mfcc())
    items = [
        StoredUtterance(cut.id, cut.supervisions[0].speaker, cut.supervisions[0].text,
             cepstra.compute(load_samples(cut), 16000))
        for cut in cuts
    ]  # fmt: skip
    lang = Lang.create(Lexicon.from_file(root / "etc" / "an4.dic"))
    senones = monophone_senones(lang)
    store = Store.create(tmp_path / "store", lambda: items, variance=False, chunk_frames=4000)
    context = gmm_tools.quiet(tmp_path / "mono", lang)
    data = Data(store, FeatureTransform.deltas(store.base_dim))
    data, unusable = compile_all(lang, senones, data, tmp_path / "mono" / "graphs", context)
    assert store.num_chunks > 1 and len(unusable) <= 10
    assert all("too short for its words" in reason for reason in unusable.values())
    simpler, data = mono.train_mono(senones, data, mono.options(passes=6, gaussians=150), context)
    likes = [row["loglike_per_frame"] for row in _rows(tmp_path / "mono")]
    assert likes[-1] > likes[0] + 3.0
    data, result = align_all(simpler, data, AlignOptions(), context, tmp_path / "mono" / "alignments.final")
    assert sorted(result.failed) == sorted(unusable)
    found = gmm_tools.alignments(data)
    for item in items:
        if item.id in unusable:
            continue
        phones, durations = phone_segments(found[item.id], simpler.senones)
        assert durations.sum() == len(item.features)
        first_word = item.text.split()[0]
        begins = {lang.phones[p.phones[0]] for p in lang.lexicon.pronunciations(first_word)}
        spoken = [p for p in phones.tolist() if p not in lang.silence_ids]
        assert spoken[0] in begins
    model, _ = deltas.train_deltas(
        simpler.senones, data, lang, TreeOptions(150, 100.0), deltas.options(passes=4, gaussians=250),
        gmm_tools.quiet(tmp_path / "tri", lang),
    )
    assert model.senones.num_pdfs > 34 * 3 + 5
    assert _rows(tmp_path / "tri")[-1]["loglike_per_frame"] > likes[-1]
