"""Training of GMMs: likelihood that rises, runs that are killed and resumed, folders that are broken, real speech."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import gmm_tools
import numpy as np
import pytest

from hybrid.data.audio import load_samples
from hybrid.data.features import FrontEnd, Mfcc
from hybrid.data.transforms import apply_cmvn, deltas
from hybrid.errors import ConfigError, DataError, HybridError, ModelError
from hybrid.gmm import deltas as triphones
from hybrid.gmm import mono
from hybrid.gmm.align import Alignments, AlignOptions, align, equal_alignments
from hybrid.gmm.diag import DiagGmms
from hybrid.gmm.train import GmmModel, PassOptions, TrainingSet, boosted, gather, run_passes
from hybrid.hmm.alignment import phone_segments
from hybrid.hmm.graph import TrainingGraphs, min_frames
from hybrid.hmm.senones import Senones
from hybrid.hmm.topology import bootstrap_topology
from hybrid.hmm.tree import Leaf, Table, Tree
from hybrid.io import load_tensors, read_jsonl, save_tensors
from lexicon.lang import Lang
from lexicon.lexicon import Lexicon

LANG = gmm_tools.make_lang()
DATA, TEXTS = gmm_tools.corpus(LANG)
QUIET = {"log": lambda message: None}
SILENT = LANG.silence_ids


def _start():
    """A model of single Gaussians and the flat start."""
    senones = gmm_tools.make_senones(LANG)
    frames = np.concatenate(list(DATA.features.values())).astype(float)
    ones = np.ones((senones.num_pdfs, 1))
    model = GmmModel(senones, DiagGmms.single(ones * frames.mean(0), ones * frames.var(0)))
    return model, equal_alignments(DATA.ids, {i: len(DATA.features[i]) for i in DATA.ids}, DATA.graphs)


OPTIONS = PassOptions(passes=7, realign=(1, 2, 4, 6), gaussians=40, last_increase=4, min_count=3.0)


def _run(folder, options=OPTIONS, **more):
    model, start = _start()
    return run_passes(model, DATA, start, options, folder=folder, seed=3, **{**QUIET, **more})


def _rows(folder):
    return read_jsonl(folder / "passes.jsonl")


# -- passes -----------------------------------------------------------------------------------------------------------


def test_on_fixed_alignments_the_likelihood_never_falls(tmp_path):
    model, start = _start()
    rng = np.random.default_rng(0)
    grown = DiagGmms(
        np.full(2 * model.gmms.num_pdfs, 0.5),
        np.repeat(model.gmms.means, 2, axis=0) + rng.normal(size=(2 * model.gmms.num_pdfs, gmm_tools.DIM)),
        np.repeat(model.gmms.variances, 2, axis=0),
        np.arange(model.gmms.num_pdfs + 1) * 2,
    )
    options = PassOptions(passes=10, realign=(), gaussians=0, last_increase=1, min_count=0.0)
    run_passes(replace(model, gmms=grown), DATA, start, options, folder=tmp_path, seed=0, **QUIET)
    likes = [row["loglike_per_frame"] for row in _rows(tmp_path)]
    assert all(after >= before - 1e-4 for before, after in zip(likes, likes[1:]))
    assert likes[-1] > likes[0] + 0.1


def test_realigned_passes_find_the_states_and_grow_to_the_target(tmp_path):
    model = _run(tmp_path)
    rows = _rows(tmp_path)
    assert [row["pass"] for row in rows] == list(range(1, 8))
    assert rows[-1]["loglike_per_frame"] > rows[0]["loglike_per_frame"] + 1.0
    assert all(row["frames"] == DATA.frames and row["failed"] == 0 for row in rows)
    first = model.senones.num_pdfs
    step = (40 - first) // 4
    # one or two more where a pdf has kept what it got when it had more frames
    grown = np.array([row["gaussians"] for row in rows][:4]) - [first + step * n for n in (1, 2, 3, 4)]
    assert np.all((grown >= 0) & (grown <= 2))
    assert rows[-1]["gaussians"] == model.gmms.num_gaussians


def test_realigned_in_every_pass_the_states_that_made_the_frames_are_found(tmp_path):
    """Each state's frames have variance one about its point: the likelihood ends where those Gaussians have it."""
    options = replace(OPTIONS, passes=14, realign=tuple(range(1, 14)), gaussians=24)
    _run(tmp_path, options)
    ideal = -0.5 * gmm_tools.DIM * (np.log(2 * np.pi) + 1)
    assert _rows(tmp_path)[-1]["loglike_per_frame"] == pytest.approx(ideal, abs=0.1)


def test_rows_say_the_likelihood_of_the_model_before_the_pass(tmp_path):
    model, start = _start()
    stats, _ = gather(model, DATA, start)
    options = PassOptions(passes=1, realign=(), gaussians=0, last_increase=1)
    run_passes(model, DATA, start, options, folder=tmp_path, seed=0, **QUIET)
    assert _rows(tmp_path)[0]["loglike_per_frame"] == pytest.approx(stats.loglike / DATA.frames, abs=1e-5)


def test_gathered_counts_are_those_of_the_alignments():
    model, start = _start()
    stats, counts = gather(model, DATA, start)
    everything = np.concatenate([start.tids[i] for i in DATA.ids])
    assert counts.tolist() == [np.sum(everything == tid) for tid in range(model.senones.num_tids + 1)]
    pdfs = model.senones.tid2pdf[everything]
    np.testing.assert_allclose(stats.occupancy(model.gmms), np.bincount(pdfs, minlength=model.gmms.num_pdfs))
    x = np.concatenate([DATA.features[i] for i in DATA.ids])
    np.testing.assert_allclose(stats.first[pdfs[0]], x[pdfs == pdfs[0]].sum(0), rtol=1e-4)


def test_utterances_that_failed_to_align_are_left_out_of_the_statistics():
    model, start = _start()
    gone = DATA.ids[3]
    without = Alignments({i: t for i, t in start.tids.items() if i != gone}, {}, [gone])
    stats, _ = gather(model, DATA, without)
    assert stats.frames == DATA.frames - len(DATA.features[gone])


def test_nothing_aligned_is_said():
    model, _ = _start()
    with pytest.raises(DataError, match="none of 30 utterances") as caught:
        gather(model, DATA, Alignments())
    assert caught.value.remedy


@pytest.mark.parametrize("bad, stops", [(14, False), (16, True)])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_pass_that_loses_more_than_half_stops_and_names_one(tmp_path, bad, stops):
    model, start = _start()
    short = {i: DATA.features[i][:2] if n < bad else DATA.features[i] for n, i in enumerate(DATA.ids)}
    data = TrainingSet(DATA.ids, short, DATA.graphs)
    options = PassOptions(passes=1, realign=(1,), gaussians=0, last_increase=1)
    if not stops:
        run_passes(model, data, start, options, folder=tmp_path, seed=0, **QUIET)
        assert _rows(tmp_path)[0]["failed"] == bad
        return
    with pytest.raises(DataError, match="16 of 30") as caught:
        run_passes(model, data, start, options, folder=tmp_path, seed=0, **QUIET)
    assert caught.value.utterance == DATA.ids[0]
    assert caught.value.remedy


@pytest.mark.parametrize("passes", [0, -1])
def test_no_passes_are_refused(tmp_path, passes):
    with pytest.raises(ConfigError, match="passes"):
        _run(tmp_path, replace(OPTIONS, passes=passes))


# -- killed and resumed -----------------------------------------------------------------------------------------------


class _Killed(Exception):
    pass


def _until(last):
    """A progress bar under which the run dies when pass `last` is over."""

    def progress(iterable, **_):
        for number in iterable:
            if number > last:
                raise _Killed
            yield number

    return progress


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, _run(folder)


@pytest.mark.parametrize("last", [0, 1, 3, 5, 6])
def test_a_killed_run_goes_on_with_the_same_numbers(tmp_path, uninterrupted, last):
    folder, whole = uninterrupted
    with pytest.raises(_Killed):
        _run(tmp_path, progress=_until(last))
    model = _run(tmp_path)
    assert _rows(tmp_path) == _rows(folder)
    for name, tensor in whole.gmms.tensors().items():
        np.testing.assert_array_equal(model.gmms.tensors()[name], tensor)
    np.testing.assert_array_equal(model.senones.log_probs, whole.senones.log_probs)
    assert (tmp_path / "state.safetensors").read_bytes() == (folder / "state.safetensors").read_bytes()


def test_a_finished_run_does_nothing_again(tmp_path, uninterrupted):
    folder, whole = uninterrupted
    shutil.copytree(folder, tmp_path / "again")
    model, start = _start()
    broken = TrainingSet(DATA.ids, {}, {})  # anything that reads features would fail
    again = run_passes(model, broken, start, OPTIONS, folder=tmp_path / "again", seed=3, **QUIET)
    np.testing.assert_array_equal(again.gmms.means, whole.gmms.means)
    assert _rows(tmp_path / "again") == _rows(folder)


def test_the_seed_decides_the_splits(tmp_path, uninterrupted):
    model, start = _start()
    other = run_passes(model, DATA, start, OPTIONS, folder=tmp_path, seed=4, **QUIET)
    assert not np.array_equal(other.gmms.means, uninterrupted[1].gmms.means)


def _notes(change):
    def edit(path):
        from safetensors import safe_open

        with safe_open(str(path), "numpy") as file:
            notes = json.loads(file.metadata()["state"])
        save_tensors(path, load_tensors(path), {"state": json.dumps(change(notes))})

    return edit


def _tensors(change):
    def edit(path):
        from safetensors import safe_open

        with safe_open(str(path), "numpy") as file:
            metadata = file.metadata()
        save_tensors(path, change(load_tensors(path)), metadata)

    return edit


def _drop(name):
    return lambda tensors: {key: value for key, value in tensors.items() if key != name}


def _one_pdf_less(tensors):
    end = tensors["gmm.offsets"][-2]
    cut = {name: tensors[name][:end] for name in ("gmm.weights", "gmm.means", "gmm.variances")}
    return {**tensors, **cut, "gmm.offsets": tensors["gmm.offsets"][:-1]}


BROKEN_STATES = {
    "empty": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "no notes": lambda path: save_tensors(path, load_tensors(path)),
    "notes a list": _notes(lambda notes: [notes]),
    "notes without rows": _notes(lambda notes: {k: v for k, v in notes.items() if k != "rows"}),
    "no tids": _tensors(_drop("tids")),
    "no means": _tensors(_drop("gmm.means")),
    "no transitions": _tensors(_drop("log_probs")),
    "transitions of another tree": _tensors(lambda t: {**t, "log_probs": t["log_probs"][:-2]}),
    "mixtures of another tree": _tensors(_one_pdf_less),
}


@pytest.mark.parametrize("change", BROKEN_STATES.values(), ids=BROKEN_STATES.keys())
def test_a_broken_state_is_refused_with_its_name_and_a_remedy(tmp_path, uninterrupted, change):
    shutil.copy(uninterrupted[0] / "state.safetensors", tmp_path)
    change(tmp_path / "state.safetensors")
    with pytest.raises(ModelError, match="state.safetensors") as caught:
        _run(tmp_path)
    assert caught.value.remedy


# -- silence ----------------------------------------------------------------------------------------------------------


def test_silence_is_made_more_likely_for_alignment_alone():
    model, _ = _start()
    x = DATA.features[DATA.ids[0]]
    silent = np.unique(model.senones.tid2pdf[1:][np.isin(model.senones.tid2phone[1:], SILENT)])
    before, after = model.gmms.loglikes(x), boosted(model, SILENT, 3.0).loglikes(x)
    is_silent = np.isin(np.arange(model.gmms.num_pdfs), silent)
    np.testing.assert_allclose(after[is_silent], before[is_silent] + np.log(3.0), rtol=1e-5)
    np.testing.assert_array_equal(after[~is_silent], before[~is_silent])
    assert boosted(model, SILENT, 1.0) is model.gmms
    assert boosted(model, [], 3.0) is model.gmms


def test_a_pdf_that_silence_shares_with_a_phone_is_not_boosted():
    topology = bootstrap_topology([2], [1], num_silence_states=3)
    shared = Table(-1, [Leaf(0), Leaf(1), Leaf(2)])
    senones = Senones(topology, Tree(Table(0, [None, shared, shared]), 1, 0), {"s": 1, "a": 2})
    model = GmmModel(senones, DiagGmms.single(np.zeros((3, 2)), np.ones((3, 2))))
    assert boosted(model, [1], 5.0).weights.tolist() == [1, 1, 1]


# -- monophones and triphones -----------------------------------------------------------------------------------------


def test_the_schedules_are_kaldis():
    opts = mono.options()
    assert (opts.passes, opts.gaussians, opts.last_increase) == (40, 1000, 30)
    # steps/train_mono.sh: realign_iters
    assert opts.realign == tuple(map(int, "1 2 3 4 5 6 7 8 9 10 12 14 16 18 20 23 26 29 32 35 38".split()))
    opts = triphones.options()
    assert (opts.passes, opts.realign, opts.last_increase) == (35, (10, 20, 30), 25)
    assert mono.options(passes=5).realign == (1, 2, 3, 4)
    assert mono.options(passes=5).last_increase == 1
    assert triphones.options(passes=20, power=0.2).realign == (10,)
    # gmm-align-compiled in steps/train_mono.sh
    assert AlignOptions() == AlignOptions(0.1, 1.0, 0.1, 10.0, 40.0)


def _mono(folder, data=DATA, passes=8, gaussians=30):
    return mono.train_mono(
        gmm_tools.make_senones(LANG), data, mono.options(passes=passes, gaussians=gaussians),
        folder=folder, silence_phones=SILENT, **QUIET,
    )


def test_monophones_learn_the_phones_from_nothing_but_transcripts(tmp_path):
    model = _mono(tmp_path)
    rows = _rows(tmp_path)
    assert rows[-1]["loglike_per_frame"] > rows[0]["loglike_per_frame"] + 1.0
    found = align(DATA.ids, DATA.features, DATA.graphs, model.gmms, model.senones)
    assert not found.failed
    phones, _ = phone_segments(found.tids["u000"], model.senones)
    spelled = [LANG.phone_names[p] for p in phones.tolist() if p not in SILENT]
    assert "".join(spelled).startswith(gmm_tools.WORDS[TEXTS["u000"].split()[0]][0][0])


def test_training_on_nothing_is_refused(tmp_path):
    with pytest.raises(DataError, match="no utterances") as caught:
        _mono(tmp_path, TrainingSet([], {}, {}))
    assert caught.value.remedy
    short = TrainingSet(DATA.ids[:2], {i: DATA.features[i][:2] for i in DATA.ids[:2]}, DATA.graphs)
    with pytest.raises(DataError, match="none of 2 utterances"):
        _mono(tmp_path, short)


def test_a_feature_that_never_changes_does_no_harm(tmp_path):
    still = {i: np.c_[x, np.full(len(x), 5.0)].astype(np.float32) for i, x in DATA.features.items()}
    model = _mono(tmp_path, TrainingSet(DATA.ids, still, DATA.graphs), passes=3)
    assert np.isfinite(model.gmms.means).all()
    assert model.gmms.variances[:, -1] == pytest.approx(1e-3)


@pytest.fixture(scope="module")
def by_left(tmp_path_factory):
    """Speech whose phones depend on their left neighbour; its monophones and their alignments."""
    folder = tmp_path_factory.mktemp("left")
    data, texts = gmm_tools.corpus(LANG, count=60, seed=1, by_left=3.0)
    model = _mono(folder / "mono", data)
    return folder, data, texts, model, align(data.ids, data.features, data.graphs, model.gmms, model.senones)


def _triphones(folder, data, texts, simpler, found, **more):
    settings = {"leaves": 60, "threshold": 20.0, "groups": LANG.phone_groups(), "silence_phones": SILENT, **more}
    return triphones.train_deltas(
        simpler.senones, found, data, triphones.options(passes=6, gaussians=60),
        graphs=lambda senones: gmm_tools.compile_graphs(LANG, senones, texts),
        folder=folder, **settings, **QUIET,
    )


def test_triphones_find_what_depends_on_the_neighbour(by_left, tmp_path):
    folder, data, texts, simpler, found = by_left
    model = _triphones(tmp_path, data, texts, simpler, found)
    tree = model.senones.tree
    assert (tree.context_width, tree.central_position) == (3, 1)
    assert model.senones.num_pdfs > simpler.senones.num_pdfs
    # "b" comes after "a" and after "c"
    a, b, c = (LANG.phones[name] for name in "abc")
    assert tree.pdf([a, b, 0], 1) != tree.pdf([c, b, 0], 1)
    assert len({tree.pdf([left, SILENT[0], 0], 1) for left in (0, a, b, c)}) == 1
    assert _rows(tmp_path)[-1]["loglike_per_frame"] > _rows(folder / "mono")[-1]["loglike_per_frame"] + 0.3
    again = align(data.ids, data.features, gmm_tools.compile_graphs(LANG, model.senones, texts), model.gmms,
                  model.senones)
    assert not again.failed


def test_triphones_are_the_same_again_and_after_a_kill(by_left, tmp_path):
    _, data, texts, simpler, found = by_left
    one = _triphones(tmp_path / "a", data, texts, simpler, found)
    two = _triphones(tmp_path / "b", data, texts, simpler, found)
    np.testing.assert_array_equal(one.gmms.means, two.gmms.means)
    with pytest.raises(_Killed):
        _triphones(tmp_path / "c", data, texts, simpler, found, progress=_until(3))
    three = _triphones(tmp_path / "c", data, texts, simpler, found)
    np.testing.assert_array_equal(one.gmms.means, three.gmms.means)
    assert one.senones.tree == three.senones.tree


def test_an_utterance_that_the_monophones_lost_is_lost_no_more(by_left, tmp_path):
    """It takes no part in the tree; the first realignment may find it."""
    _, data, texts, simpler, found = by_left
    gone = data.ids[0]
    fewer = Alignments({i: t for i, t in found.tids.items() if i != gone}, dict(found.loglike), [gone])
    model = _triphones(tmp_path, data, texts, simpler, fewer)
    rows = _rows(tmp_path)
    assert rows[0]["frames"] == data.frames - len(data.features[gone])
    assert rows[0]["failed"] == 1
    assert model.gmms.num_pdfs == model.senones.num_pdfs


def test_no_alignments_make_no_tree(by_left, tmp_path):
    _, data, texts, simpler, _ = by_left
    with pytest.raises(DataError) as caught:
        _triphones(tmp_path, data, texts, simpler, Alignments())
    assert caught.value.remedy


# -- models on disk ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    model, _ = _start()
    model.save(folder, {"mfcc": {"num_ceps": 13}})
    return folder, model


def test_a_folder_brings_back_the_same_model(saved):
    folder, model = saved
    again = GmmModel.load(folder)
    x = DATA.features["u000"]
    got = again.loglikes(x)
    np.testing.assert_array_equal(got, model.loglikes(x))
    assert (got.shape, got.dtype) == ((len(x), model.gmms.num_pdfs), np.float32)
    assert got.flags["C_CONTIGUOUS"]
    assert json.loads((folder / "features.json").read_text()) == {"mfcc": {"num_ceps": 13}}
    assert {path.name for path in folder.iterdir()} == {
        "senones", "model.safetensors", "features.json", "config.json"
    }


def _other_senones(folder):
    network = gmm_tools.make_senones(LANG, "network")
    network.save(folder / "senones")


def _json(name, value):
    return lambda folder: (folder / name).write_text(json.dumps(value))


BROKEN_MODELS = {
    "no folder": (shutil.rmtree, "config.json"),
    "no config": (lambda f: (f / "config.json").unlink(), "config.json"),
    "a network": (_json("config.json", {"kind": "lstm"}), "not a GMM"),
    "config a list": (_json("config.json", []), "not a GMM"),
    "config empty": (lambda f: (f / "config.json").write_text(""), "config.json"),
    "no mixtures": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors"),
    "mixtures cut off": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-5]),
        "model.safetensors",
    ),
    "mixtures of something else": (
        lambda f: save_tensors(f / "model.safetensors", {"x": np.zeros(2)}), "model.safetensors"
    ),
    "no senones": (lambda f: shutil.rmtree(f / "senones"), "senones"),
    "senones of another run": (_other_senones, "mixtures for .* pdfs"),
}


@pytest.mark.parametrize("change, what", BROKEN_MODELS.values(), ids=BROKEN_MODELS.keys())
def test_a_broken_folder_is_refused_with_its_name_and_a_remedy(tmp_path, saved, change, what):
    folder = tmp_path / "model"
    shutil.copytree(saved[0], folder)
    change(folder)
    with pytest.raises(HybridError, match=what) as caught:
        GmmModel.load(folder)
    assert str(folder) in str(caught.value)
    assert caught.value.remedy


# -- real speech ------------------------------------------------------------------------------------------------------


def test_sixty_real_utterances(shared_data, tmp_path):
    """AN4: the likelihood of real speech rises over the passes, for monophones and then for triphones."""
    from hybrid.io import Problems
    from recipes.an4.prepare import prepare_an4

    root = shared_data / "an4"
    sets = prepare_an4(shared_data, Problems(tmp_path / "problems.jsonl", "test"))
    cuts = [cut for cut in sets["train"] if cut.duration < 2.5][:60]
    front = FrontEnd(Mfcc())
    cepstra = {cut.id: front.compute(load_samples(cut), 16000) for cut in cuts}
    speakers = {cut.id: cut.supervisions[0].speaker for cut in cuts}
    features = {i: deltas(x).astype(np.float32) for i, x in apply_cmvn(cepstra, speakers).items()}
    texts = {cut.id: cut.supervisions[0].text for cut in cuts}
    lang = Lang.create(Lexicon.from_file(root / "etc" / "an4.dic"))
    rest = [phone for phone in lang.phone_ids if phone not in lang.silence_ids]
    senones = Senones.monophone(
        bootstrap_topology(rest, lang.silence_ids), {lang.phone_names[p]: p for p in lang.phone_ids},
        lang.phone_groups(),
    )
    compiler = TrainingGraphs(lang, senones)
    ids = [
        i for i in sorted(texts) if len(features[i]) >= min_frames(compiler.compile(lang.word_ids(texts[i], i), i))
    ]
    assert len(ids) >= 50
    texts = {i: texts[i] for i in ids}
    data = TrainingSet(ids, features, gmm_tools.compile_graphs(lang, senones, texts))
    simpler = mono.train_mono(
        senones, data, mono.options(passes=6, gaussians=150), folder=tmp_path / "mono",
        silence_phones=lang.silence_ids, **QUIET,
    )
    rows = _rows(tmp_path / "mono")
    likes = [row["loglike_per_frame"] for row in rows]
    assert likes[-1] > likes[0] + 3.0
    assert rows[-1]["failed"] == 0
    found = align(data.ids, features, data.graphs, simpler.gmms, simpler.senones)
    for i in ids:
        phones, durations = phone_segments(found.tids[i], simpler.senones)
        assert durations.sum() == len(features[i])
        first_word = texts[i].split()[0]
        begins = {lang.phones[p.phones[0]] for p in lang.lexicon.pronunciations(first_word)}
        spoken = [p for p in phones.tolist() if p not in lang.silence_ids]
        assert spoken[0] in begins
    model = triphones.train_deltas(
        simpler.senones, found, data, triphones.options(passes=4, gaussians=250), groups=lang.phone_groups(),
        silence_phones=lang.silence_ids, leaves=150, threshold=100.0,
        graphs=lambda tree: gmm_tools.compile_graphs(lang, tree, texts), folder=tmp_path / "tri", **QUIET,
    )
    assert model.senones.num_pdfs > 34 * 3 + 5
    assert _rows(tmp_path / "tri")[-1]["loglike_per_frame"] > likes[-1]
