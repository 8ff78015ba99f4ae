"""The passes that all GMM systems share: likelihood that rises, failures, runs that are killed and go on."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import gmm_tools
import numpy as np
import pytest

from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.gmm.align import Aligned
from hybrid.gmm.chunks import align_equally, chunk_file
from hybrid.gmm.diag import DiagGmms
from hybrid.gmm.estimate import GmmStats
from hybrid.gmm.model import GmmModel
from hybrid.gmm.passes import PassOptions, gather, run_passes
from hybrid.io import load_tensors, read_json, read_jsonl, save_tensors
from hybrid.parallel import SerialExecutor

LANG = gmm_tools.make_lang()
ITEMS = gmm_tools.speech(LANG)
FRAMES = sum(len(item.features) for item in ITEMS)
IDS = [item.id for item in ITEMS]


def _stored(folder, items=ITEMS, chunk_frames=500):
    return gmm_tools.make_data(folder, LANG, gmm_tools.make_senones(LANG), items, chunk_frames)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """The utterances in chunks, with graphs."""
    data = _stored(tmp_path_factory.mktemp("stored"))
    assert data.store.num_chunks > 2 and data.store.frames == FRAMES
    return data


def _start(folder, stored):
    """A model of single Gaussians with the moments of all frames, and the flat start in `folder`."""
    senones = gmm_tools.make_senones(LANG)
    frames = np.concatenate([chunk.base for chunk in stored.store]).astype(float)
    ones = np.ones((senones.num_pdfs, 1))
    for index in range(stored.store.num_chunks):
        align_equally(index, data=stored, folder=folder / "alignments.0", seed=0)
    model = GmmModel(senones, DiagGmms.single(ones * frames.mean(0), ones * frames.var(0)), stored.feature_transform)
    return model, replace(stored, alignments=folder / "alignments.0")


OPTIONS = PassOptions(passes=7, realign=(1, 2, 4, 6), gaussians=40, last_increase=4, min_count=3.0)


def _run(folder, stored, options=OPTIONS, **more):
    model, data = _start(folder, stored)
    return run_passes(model, data, options, gmm_tools.quiet(folder, LANG, **{"seed": 3, **more}))


def _rows(folder):
    return read_jsonl(folder / "passes.jsonl")


# -- passes -----------------------------------------------------------------------------------------------------------


def test_on_fixed_alignments_the_likelihood_never_falls(tmp_path, stored):
    model, data = _start(tmp_path, stored)
    rng = np.random.default_rng(0)
    grown = DiagGmms(
        np.full(2 * model.gmms.num_pdfs, 0.5),
        np.repeat(model.gmms.means, 2, axis=0) + rng.normal(size=(2 * model.gmms.num_pdfs, gmm_tools.DIM)),
        np.repeat(model.gmms.variances, 2, axis=0),
        np.arange(model.gmms.num_pdfs + 1) * 2,
    )
    options = PassOptions(passes=10, realign=(), gaussians=0, last_increase=1, min_count=0.0)
    run_passes(replace(model, gmms=grown), data, options, gmm_tools.quiet(tmp_path))
    likes = [row["loglike_per_frame"] for row in _rows(tmp_path)]
    assert all(after >= before - 1e-4 for before, after in zip(likes, likes[1:]))
    assert likes[-1] > likes[0] + 0.1


def test_realigned_passes_find_the_states_and_grow_to_the_target(uninterrupted):
    folder, (model, data) = uninterrupted
    rows = _rows(folder)
    assert [row["pass"] for row in rows] == list(range(1, 8))
    assert rows[-1]["loglike_per_frame"] > rows[0]["loglike_per_frame"] + 1.0
    assert all(row["frames"] == FRAMES and row["failed"] == 0 for row in rows)
    first = model.senones.num_pdfs
    step = (40 - first) // 4
    # one or two more where a pdf has kept what it got when it had more frames
    grown = np.array([row["gaussians"] for row in rows][:4]) - [first + step * n for n in (1, 2, 3, 4)]
    assert np.all((grown >= 0) & (grown <= 2))
    assert rows[-1]["gaussians"] == model.gmms.num_gaussians
    # what is left beside the results: the alignments that the last passes used, no older ones
    assert data.alignments == folder / "alignments.6"
    assert sorted(path.name for path in folder.iterdir()) == [
        "alignments.6", "occupancy.json", "passes.jsonl", "state.safetensors"
    ]
    counts = read_json(folder / "occupancy.json")["counts"]
    assert sum(counts) == pytest.approx(FRAMES, abs=len(counts))


def test_realigned_in_every_pass_the_states_that_made_the_frames_are_found(tmp_path):
    """Each state's frames have variance one about its point: the likelihood ends where those Gaussians have it.

    In a language whose flat start does not end where two states have changed places.
    """
    stored = _stored(tmp_path / "stored", gmm_tools.speech(LANG, seed=14, language=4))
    options = replace(OPTIONS, passes=14, realign=tuple(range(1, 14)), gaussians=24)
    _run(tmp_path, stored, options)
    ideal = -0.5 * gmm_tools.DIM * (np.log(2 * np.pi) + 1)
    assert _rows(tmp_path)[-1]["loglike_per_frame"] == pytest.approx(ideal, abs=0.1)


def test_rows_say_the_likelihood_of_the_model_before_the_pass(tmp_path, stored):
    model, data = _start(tmp_path, stored)
    context = gmm_tools.quiet(tmp_path)
    stats = gather(model, data, context).stats
    run_passes(model, data, PassOptions(passes=1, realign=(), gaussians=0, last_increase=1), context)
    assert _rows(tmp_path)[0]["loglike_per_frame"] == pytest.approx(stats.loglike / FRAMES, abs=1e-5)


def test_gathered_counts_are_those_of_the_alignments(tmp_path, stored):
    model, data = _start(tmp_path, stored)
    result = gather(model, data, gmm_tools.quiet(tmp_path))
    everything = np.concatenate([data.aligned(index).tids for index in range(data.store.num_chunks)])
    assert result.counts.tolist() == [np.sum(everything == tid) for tid in range(model.senones.num_tids + 1)]
    assert (result.aligned, result.failed) == (len(IDS), [])
    pdfs = model.senones.tid2pdf[everything]
    stats = result.stats
    assert isinstance(stats, GmmStats)
    np.testing.assert_allclose(stats.occupancy(model.gmms), np.bincount(pdfs, minlength=model.gmms.num_pdfs))
    x = np.concatenate([chunk.base for chunk in data.store])
    np.testing.assert_allclose(stats.first[pdfs[0]], x[pdfs == pdfs[0]].sum(0), rtol=1e-4, atol=1e-2)


def _drop(data, gone):
    """Takes utterances out of the alignments; their frames."""
    frames = 0
    for index in range(data.store.num_chunks):
        found, ids = data.aligned(index), data.store.about(index)["ids"]
        frames += int(sum(length for name, length in zip(ids, found.lengths) if name in gone))
        kept = [None if name in gone else tids for name, tids in zip(ids, found.each())]
        Aligned.of(kept, found.loglike).save(chunk_file(data.alignments, index))
    return frames


def test_utterances_that_failed_to_align_are_left_out_of_the_statistics_and_named(tmp_path, stored):
    model, data = _start(tmp_path, stored)
    frames = _drop(data, {"u003", "u017"})
    result = gather(model, data, gmm_tools.quiet(tmp_path))
    assert result.stats.frames == FRAMES - frames
    assert (result.failed, result.aligned) == (["u003", "u017"], 28)


def test_nothing_aligned_is_said(tmp_path, stored):
    model, data = _start(tmp_path, stored)
    _drop(data, set(IDS))
    with pytest.raises(DataError, match="none of 30 utterances") as caught:
        gather(model, data, gmm_tools.quiet(tmp_path))
    assert caught.value.remedy


@pytest.mark.parametrize("bad, stops", [(14, False), (16, True)])
def test_a_pass_that_loses_more_than_half_stops_and_names_one(tmp_path, bad, stops):
    short = [item._replace(features=item.features[:2]) if n < bad else item for n, item in enumerate(ITEMS)]
    stored = _stored(tmp_path / "stored", short)
    options = PassOptions(passes=1, realign=(1,), gaussians=0, last_increase=1)
    if not stops:
        _run(tmp_path, stored, options)
        assert _rows(tmp_path)[0]["failed"] == bad
        return
    with pytest.raises(DataError, match="16 of 30") as caught:
        _run(tmp_path, stored, options)
    assert caught.value.utterance == IDS[0]
    assert caught.value.remedy


@pytest.mark.parametrize("passes", [0, -1])
def test_no_passes_are_refused(tmp_path, stored, passes):
    with pytest.raises(ConfigError, match="passes"):
        _run(tmp_path, stored, replace(OPTIONS, passes=passes))


@pytest.mark.parametrize("executor", [SerialExecutor, lambda: ThreadPoolExecutor(2)], ids=["one by one", "threads"])
def test_workers_train_the_same_model(tmp_path, stored, uninterrupted, executor):
    with executor() as workers:
        model, _ = _run(tmp_path, stored, executor=workers)
    _assert_same(model, uninterrupted[1][0])
    assert _rows(tmp_path) == _rows(uninterrupted[0])


def test_one_chunk_trains_the_same_model_to_rounding(tmp_path, uninterrupted):
    """The draws of the flat start and the sums' order differ: the end is the same, the first passes nearly."""
    whole = _stored(tmp_path / "stored", chunk_frames=10**6)
    assert whole.store.num_chunks == 1
    _run(tmp_path, whole)
    one, several = _rows(tmp_path)[-1], _rows(uninterrupted[0])[-1]
    assert one["frames"] == several["frames"]
    assert one["loglike_per_frame"] == pytest.approx(several["loglike_per_frame"], abs=0.15)


# -- killed and resumed -----------------------------------------------------------------------------------------------


class _Killed(BaseException):
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
def uninterrupted(tmp_path_factory, stored):
    folder = tmp_path_factory.mktemp("whole")
    return folder, _run(folder, stored)


def _assert_same(model, whole):
    for name, tensor in whole.gmms.tensors().items():
        np.testing.assert_array_equal(model.gmms.tensors()[name], tensor)
    np.testing.assert_array_equal(model.senones.log_probs, whole.senones.log_probs)


def _assert_same_files(folder, other):
    assert _rows(folder) == _rows(other)
    for name in ("state.safetensors", "occupancy.json"):
        assert (folder / name).read_bytes() == (other / name).read_bytes()
    for path in sorted((other / "alignments.6").iterdir()):
        assert (folder / "alignments.6" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("last", [0, 1, 3, 5, 6])
def test_a_killed_run_goes_on_with_the_same_numbers(tmp_path, stored, uninterrupted, last):
    folder, (whole, _) = uninterrupted
    with pytest.raises(_Killed):
        _run(tmp_path, stored, progress=_until(last))
    model, _ = _run(tmp_path, stored)
    _assert_same(model, whole)
    _assert_same_files(tmp_path, folder)


def test_a_run_that_is_killed_at_every_write_gets_there_all_the_same(tmp_path, stored, uninterrupted, monkeypatch):
    """Before each file that is renamed into place in turn: alignments of a chunk, states, rows."""
    folder, (whole, _) = uninterrupted
    model, data = _start(tmp_path, stored)
    rename, left = os.replace, [0]

    def dies(*arguments):
        if not left[0]:
            raise _Killed
        left[0] -= 1
        rename(*arguments)

    deaths = 0
    while True:
        model, data = _start(tmp_path, stored)
        # A pass writes the alignments of all chunks and then its state: with fewer writes nothing would ever be done.
        left[0] = stored.store.num_chunks + 1 + deaths % 3
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", dies)
            try:
                model, data = run_passes(model, data, OPTIONS, gmm_tools.quiet(tmp_path, LANG, seed=3))
                break
            except _Killed:
                deaths += 1
                assert deaths < 20
    assert deaths >= 3
    _assert_same(model, whole)
    _assert_same_files(tmp_path, folder)


def test_a_finished_run_does_nothing_again(tmp_path, stored, uninterrupted):
    folder, (whole, _) = uninterrupted
    shutil.copytree(folder, tmp_path / "again")
    model, data = _start(tmp_path, stored)
    nothing = replace(data, store=replace(data.store, folder=tmp_path / "nowhere"))  # reading features would fail
    context = gmm_tools.quiet(tmp_path / "again", LANG, seed=3)
    again, _ = run_passes(model, nothing, OPTIONS, context)
    _assert_same(again, whole)
    _assert_same_files(tmp_path / "again", folder)


def test_the_seed_decides_the_splits(tmp_path, stored, uninterrupted):
    other, _ = _run(tmp_path, stored, seed=4)
    assert not np.array_equal(other.gmms.means, uninterrupted[1][0].gmms.means)


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


def _without(name):
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
    "notes without alignments": _notes(lambda notes: {k: v for k, v in notes.items() if k != "alignments"}),
    "no means": _tensors(_without("gmm.means")),
    "no feature transform": _tensors(_without("front.matrix")),
    "no transitions": _tensors(_without("log_probs")),
    "transitions of another tree": _tensors(lambda t: {**t, "log_probs": t["log_probs"][:-2]}),
    "mixtures of another tree": _tensors(_one_pdf_less),
}


@pytest.mark.parametrize("change", BROKEN_STATES.values(), ids=BROKEN_STATES.keys())
def test_a_broken_state_is_refused_with_its_name_and_a_remedy(tmp_path, stored, uninterrupted, change):
    shutil.copy(uninterrupted[0] / "state.safetensors", tmp_path)
    change(tmp_path / "state.safetensors")
    with pytest.raises(ModelError, match="state.safetensors") as caught:
        _run(tmp_path, stored)
    assert caught.value.remedy


def test_alignments_that_are_gone_are_named(tmp_path, stored):
    with pytest.raises(_Killed):
        _run(tmp_path, stored, progress=_until(2))
    shutil.rmtree(tmp_path / "alignments.2")
    with pytest.raises(ModelError, match="alignments.2") as caught:
        _run(tmp_path, stored)
    assert caught.value.remedy
