"""From transcripts to a speaker-adapted system: what each step gains, kills at any write, workers, chunks."""

from __future__ import annotations

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import gmm_tools
import numpy as np
import pytest

from hybrid.errors import ConfigError, HybridError
from hybrid.gmm import lda_mllt, sat
from hybrid.gmm.adapt import adapt_speakers, silent_pdfs
from hybrid.gmm.align import Aligned, AlignOptions
from hybrid.gmm.apply import align_store
from hybrid.gmm.bootstrap import SYSTEMS, BootstrapOptions, StepOptions, train_steps
from hybrid.gmm.chunks import Data, chunk_file, load_transforms
from hybrid.gmm.deltas import options as deltas_options
from hybrid.gmm.deltas import train_deltas
from hybrid.gmm.estimate import GmmStats, accumulate
from hybrid.gmm.feature_transform import FeatureTransform, adapt
from hybrid.gmm.trees import TreeOptions
from hybrid.io import read_json, read_jsonl
from hybrid.parallel import SerialExecutor

LANG = gmm_tools.make_lang()
SPEAKERS = 3
TRIPHONES = StepOptions(passes=5, gaussians=60, leaves=40, threshold=20.0)
OPTIONS = BootstrapOptions(
    {"mono": StepOptions(8, 40), **dict.fromkeys(SYSTEMS[1:], TRIPHONES)}, splice=1, dim=gmm_tools.DIM
)
SMALL = BootstrapOptions(
    {"mono": StepOptions(3, 20), **dict.fromkeys(SYSTEMS[1:], StepOptions(4, 40, 30, 20.0))},
    splice=1,
    dim=gmm_tools.DIM,
)
FEATURES = {"mfcc": {"num_ceps": gmm_tools.DIM}}


def _speech(count, seed=0):
    return gmm_tools.speech(LANG, count, seed, speakers=SPEAKERS, distort=0.35, language=4)


def _train(store, folder, options=SMALL, **more):
    return train_steps(store, LANG, options, folder, features=FEATURES, **{"log": lambda message: None, **more})


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A speaker to a chunk, each with enough frames for a transform."""
    items = _speech(60)
    items[7] = items[7]._replace(text="AB NOWORD")
    items[11] = items[11]._replace(features=items[11].features[:4])
    made = gmm_tools.make_store(tmp_path_factory.mktemp("store"), items, 1000)
    assert made.num_chunks == SPEAKERS
    return made


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bootstrap")
    return folder, _train(store, folder, OPTIONS)


@pytest.fixture(scope="module")
def small(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    return folder, _train(store, folder)


def _likes(folder, system):
    return [row["loglike_per_frame"] for row in read_jsonl(folder / system / "passes.jsonl")]


def _transforms(data):
    found = {}
    for index in range(data.store.num_chunks):
        found.update(load_transforms(data.transforms, index))
    return found


def _jacobian(data):
    """log |det A| a frame."""
    transforms = _transforms(data)
    frames = sum(
        np.linalg.slogdet(transforms[speaker][:, :-1].astype(float))[1] * (rows.stop - rows.start)
        for chunk in data.store
        for speaker, rows in chunk.speaker_rows()
    )
    return frames / data.store.frames


# -- what it learns ---------------------------------------------------------------------------------------------------


def test_every_system_is_a_model_folder_and_its_likelihood_rises(trained):
    folder, steps = trained
    assert list(steps.models) == list(SYSTEMS)
    for system in SYSTEMS:
        likes = _likes(folder, system)
        assert len(likes) == OPTIONS.steps[system].passes
        assert likes[-1] > likes[0]
        transform = steps.models[system].feature_transform
        reach = {"mono": 4, "tri1": 4, "tri2": 1, "tri3": 1}[system]
        assert (transform.left, transform.right) == (reach, reach)
        assert read_json(folder / system / "features.json") == {**FEATURES, "front": [reach, reach]}
        assert steps.models[system].adapted == (system == "tri3")
    assert steps.models["tri2"].senones.num_pdfs > steps.models["mono"].senones.num_pdfs


def test_transforms_report_their_gain_in_the_passes_that_estimate_them(trained):
    folder, _ = trained
    for system, name in (("tri2", "mllt_gain"), ("tri3", "fmllr_gain")):
        rows = read_jsonl(folder / system / "passes.jsonl")
        assert [row["pass"] for row in rows if name in row] == [2, 4]
        assert all(row.get(name, 0) >= 0 for row in rows)
    assert read_jsonl(folder / "tri2" / "passes.jsonl")[1]["mllt_gain"] > 0.001


def test_what_speakers_do_to_their_sounds_is_worth_more_to_an_adapted_system(trained):
    """The likelihood of the same features, the transforms' determinants included, with as many Gaussians."""
    folder, steps = trained
    transforms = _transforms(steps.data)
    assert sorted(transforms) == [f"s{n}" for n in range(SPEAKERS)]
    assert not any(np.allclose(one, np.eye(gmm_tools.DIM, gmm_tools.DIM + 1)) for one in transforms.values())
    assert _likes(folder, "tri3")[-1] + _jacobian(steps.data) > _likes(folder, "tri2")[-1] + 0.3


def test_adapting_new_speakers_on_some_utterances_makes_others_likelier(trained, tmp_path):
    """Speakers whose voices were not heard before: half of their speech to adapt on, the other half to be judged on."""
    _, steps = trained
    model = steps.models["tri3"]
    voices = gmm_tools.distortions(2, 0.35, seed=77)
    clean = gmm_tools.speech(LANG, 120, seed=5, language=4)
    items = [
        item._replace(speaker=f"new{n % 2}", features=adapt(item.features, voices[n % 2]))
        for n, item in enumerate(clean)
    ]
    store = gmm_tools.make_store(tmp_path / "store", items)
    plain = replace(model, speaker_independent=None, gmms=model.first_pass)  # the first pass: no transforms
    data, reasons = align_store(plain, store, LANG, AlignOptions(), gmm_tools.quiet(tmp_path / "first"))
    assert not reasons
    (chunk, features), found = data.load(0), data.aligned(0)
    parts = dict(zip(chunk.ids, np.split(features, chunk.offsets[1:-1])))
    pdfs = {name: model.senones.tid2pdf[tids] for name, tids in zip(chunk.ids, found.each())}
    speakers = dict(zip(chunk.ids, chunk.speakers))
    order = {name: n // 2 % 2 for n, name in enumerate(sorted(parts))}
    known = {name: path for name, path in pdfs.items() if order[name] == 0}
    silent = silent_pdfs(model, np.array(LANG.silence_ids))
    first = adapt_speakers(model, parts, known, speakers, silent)
    second = adapt_speakers(model, parts, known, speakers, silent, first)

    def judged(gmms, transforms):
        stats, jacobian = GmmStats.zeros(gmms), 0.0
        for name in parts:
            if order[name] == 1:
                transform = transforms[speakers[name]]
                accumulate(gmms, adapt(parts[name], transform), pdfs[name], stats)
                jacobian += len(parts[name]) * np.linalg.slogdet(transform[:, :-1])[1]
        return (stats.loglike + jacobian) / stats.frames

    nothing = dict.fromkeys(first, np.eye(gmm_tools.DIM, gmm_tools.DIM + 1))
    assert not any(np.allclose(one, nothing[name]) for name, one in first.items())
    values = [judged(model.first_pass, nothing), judged(model.gmms, first), judged(model.gmms, second)]
    assert values[1] > values[0] + 0.2
    assert values[2] > values[1] - 0.1


def test_what_cannot_be_used_is_named(trained):
    _, steps = trained
    assert sorted(steps.unusable) == ["u007", "u011"]
    assert "NOWORD" in steps.unusable["u007"] and "too short" in steps.unusable["u011"]
    found = gmm_tools.alignments(steps.data)
    assert [name for name, tids in sorted(found.items()) if tids is None] == ["u007", "u011"]


# -- killed and resumed -----------------------------------------------------------------------------------------------


def _outcome(folder):
    """The bytes of all that a later stage reads."""
    files = {}
    for system in SYSTEMS:
        root = folder / system
        notes = read_json(root / "finished.json")
        names = [notes[name] for name in ("graphs", "alignments", "transforms") if notes[name] is not None]
        paths = [root / name for name in ("finished.json", "passes.jsonl", "occupancy.json", "model.safetensors")]
        for path in [*paths, *(p for name in [*names, "senones"] for p in (root / name).iterdir())]:
            files[str(path.relative_to(folder))] = path.read_bytes()
    return files


def _assert_same_outcome(folder, other):
    one, two = _outcome(folder), _outcome(other)
    assert sorted(one) == sorted(two)
    assert [name for name in one if one[name] != two[name]] == []


class _Killed(BaseException):
    pass


def test_a_training_that_is_killed_again_and_again_ends_as_if_it_had_not_been(store, small, tmp_path, monkeypatch):
    """It dies before a file is renamed into place, after ever another number of files."""
    rename, left = os.replace, [0]

    def dies(*arguments):
        if not left[0]:
            raise _Killed
        left[0] -= 1
        rename(*arguments)

    deaths = []
    while True:
        # A system starts in one go, up to its first state, and ends in one, from its last: 26 files of three chunks.
        left[0] = 26 + 3 * (len(deaths) % 3)
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", dies)
            try:
                steps = _train(store, tmp_path)
                break
            except _Killed:
                deaths.append(sorted(path.parent.name for path in tmp_path.glob("*/finished.json")))
                assert len(deaths) < 60
    assert {len(finished) for finished in deaths} == {0, 1, 2, 3}
    _assert_same_outcome(tmp_path, small[0])
    for system in SYSTEMS:
        one, two = steps.models[system], small[1].models[system]
        np.testing.assert_array_equal(one.gmms.means, two.gmms.means)
        np.testing.assert_array_equal(one.feature_transform.matrix, two.feature_transform.matrix)
    assert steps.unusable == small[1].unusable


def test_a_finished_training_reads_no_features(small, tmp_path):
    folder, steps = small
    said = []
    nothing = replace(steps.data.store, folder=tmp_path / "nowhere")
    again = _train(nothing, folder, log=said.append)
    assert said == []
    assert again.unusable == steps.unusable
    for one in (again.data, steps.data):
        assert one.alignments == folder / "tri3" / "alignments.final" and one.alignments.is_dir()
        assert one.transforms.parent == folder / "tri3" and one.transforms.is_dir()
    np.testing.assert_array_equal(again.models["tri3"].first_pass.means, steps.models["tri3"].first_pass.means)


def test_a_broken_mark_of_the_end_is_refused_with_its_name_and_a_remedy(store, tmp_path):
    (tmp_path / "mono").mkdir()
    (tmp_path / "mono" / "finished.json").write_text("{")
    with pytest.raises(HybridError, match="finished.json") as caught:
        _train(store, tmp_path)
    assert caught.value.remedy


# -- workers and chunks -----------------------------------------------------------------------------------------------


class _Sending(SerialExecutor):
    """What another process would see: work and results go through pickle."""

    def submit(self, function, /, *arguments, **named):
        function, arguments, named = pickle.loads(pickle.dumps((function, arguments, named)))
        return super().submit(lambda: pickle.loads(pickle.dumps(function(*arguments, **named))))


@pytest.mark.parametrize("executor", [_Sending, lambda: ThreadPoolExecutor(2)], ids=["sent", "threads"])
def test_workers_train_the_same_models(store, small, tmp_path, executor):
    with executor() as workers:
        _train(store, tmp_path, executor=workers)
    _assert_same_outcome(tmp_path, small[0])


def test_one_chunk_and_several_agree_to_rounding(store, trained, tmp_path):
    """From the same alignments: a tree on deltas, then LDA and MLLT, then transforms."""
    folder, steps = trained
    notes = read_json(folder / "mono" / "finished.json")
    parts = Data(store, FeatureTransform.deltas(gmm_tools.DIM), alignments=folder / "mono" / notes["alignments"])
    items = _speech(60)
    items[7] = items[7]._replace(text="AB NOWORD")
    items[11] = items[11]._replace(features=items[11].features[:4])
    one = gmm_tools.make_store(tmp_path / "store", items)
    assert one.num_chunks == 1 < store.num_chunks
    every = [parts.aligned(index) for index in range(store.num_chunks)]
    assert one.about(0)["ids"] == [name for index in range(store.num_chunks) for name in store.about(index)["ids"]]
    together = [np.concatenate([getattr(part, name) for part in every]) for name in ("tids", "lengths", "loglike")]
    Aligned(*together).save(chunk_file(tmp_path / "alignments", 0))
    whole = Data(one, parts.feature_transform, alignments=tmp_path / "alignments")
    senones, tree, ends = steps.models["mono"].senones, TreeOptions(40, 20.0), []
    for name, data in (("whole", whole), ("parts", parts)):
        made = []
        contexts = [gmm_tools.quiet(tmp_path / name / system) for system in SYSTEMS[1:]]
        model, data = train_deltas(senones, data, LANG, tree, deltas_options(passes=3, gaussians=40), contexts[0])
        made.append(model)
        model, data = lda_mllt.train_lda_mllt(
            model, data, LANG, tree, lda_mllt.options(passes=4, gaussians=40), contexts[1], splice=1, dim=gmm_tools.DIM
        )
        made.append(model)
        model, data = sat.train_sat(model, data, LANG, tree, sat.options(passes=4, gaussians=40), contexts[2])
        ends.append([*made, model])
    for a, b in zip(*ends, strict=True):
        assert a.senones.tree == b.senones.tree
        np.testing.assert_array_equal(a.gmms.offsets, b.gmms.offsets)
        np.testing.assert_allclose(a.feature_transform.matrix, b.feature_transform.matrix, atol=1e-3)
        np.testing.assert_allclose(a.gmms.means, b.gmms.means, atol=2e-2)
    for system in SYSTEMS[1:]:
        np.testing.assert_allclose(_likes(tmp_path / "whole", system), _likes(tmp_path / "parts", system), atol=1e-3)


# -- settings ---------------------------------------------------------------------------------------------------------


def test_a_lexicon_learnt_from_tri2_is_what_tri3_trains_with(store, small, tmp_path):
    folder, steps = small
    for system in SYSTEMS[:3]:
        (tmp_path / system).symlink_to(folder / system)
    seen = []

    def relearn(model, data, lang):
        seen.append((model, data.alignments, lang))
        return gmm_tools.make_lang()

    _train(store, tmp_path, relearn=relearn)
    ((model, alignments, lang),) = seen
    assert alignments == tmp_path / "tri2" / "alignments.final" and lang is LANG
    np.testing.assert_array_equal(model.gmms.means, steps.models["tri2"].gmms.means)


@pytest.mark.parametrize("systems", [(), ("tri1",), ("mono", "tri2"), ("tri1", "mono"), ("mono", "tri9")], ids=str)
def test_systems_out_of_order_are_refused_with_a_remedy(store, tmp_path, systems):
    with pytest.raises(ConfigError) as caught:
        _train(store, tmp_path, systems=systems)
    assert caught.value.remedy


def test_systems_without_numbers_are_refused(store, tmp_path):
    with pytest.raises(ConfigError):
        _train(store, tmp_path, BootstrapOptions({"mono": StepOptions(3, 20)}), systems=("mono", "tri1"))


def test_a_training_may_end_early(store, small, tmp_path):
    steps = _train(store, tmp_path, systems=("mono",))
    assert list(steps.models) == ["mono"] and steps.data.transforms is None
    np.testing.assert_array_equal(steps.models["mono"].gmms.means, small[1].models["mono"].gmms.means)
