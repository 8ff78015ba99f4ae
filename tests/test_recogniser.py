"""Recognition from a run's folder: the words that the run's own decoding gives, and what is said where files lack."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Dict, List

import gmm_tools
import numpy as np
import pytest
import soundfile
from lhotse import CutSet, MonoCut, Recording
from small_run import NETWORKS, RATE, SEARCH

import hybrid
from hybrid.data.arrays import read_arrays
from hybrid.data.audio import load_samples
from hybrid.data.batches import Utterance
from hybrid.data.features import FeatureExtractor, LogMel, Mfcc, extract
from hybrid.data.transforms import network_input, stack_frames
from hybrid.decode.load import load
from hybrid.decode.recogniser import Recogniser
from hybrid.decode.run import decode_set
from hybrid.errors import ConfigError, DataError, GraphError, HybridError, ModelError
from hybrid.gmm.model import GmmModel
from hybrid.io import Problems, read_json, write_json
from hybrid.lexicon.lang import Lang
from hybrid.nnet.infer import compute_loglikes
from hybrid.nnet.model_io import load_model
from hybrid.nnet.priors import load_priors


def by_hand(small_copy: Path, system: str, small_cuts: CutSet, folder: Path) -> Dict[str, List[str]]:
    """As the stages features and decode do it: features on disk, a speaker's mean over all of their speech."""
    lang = Lang.load(small_copy / "lang")
    speakers = {cut.id: cut.supervisions[0].speaker for cut in small_cuts}
    network = system in NETWORKS
    config = LogMel(sampling_rate=RATE, num_bins=20) if network else Mfcc(sampling_rate=RATE)
    extract(small_cuts, FeatureExtractor(config, "kaldi_native_fbank"), folder)
    _, features = read_arrays(folder, "logmel" if network else "mfcc")
    cmvn = NETWORKS.get(system, "speaker+variance")
    read = {}
    for name, x in features.items():
        mine = [y for other, y in features.items() if speakers[other] == speakers[name]]
        if cmvn == "utterance":
            mine = [x]
        together = np.concatenate(mine).astype(np.float64)
        read[name] = x - together.mean(0).astype(np.float32)
        if cmvn.endswith("variance"):
            read[name] = read[name] / np.sqrt(together.var(0)).astype(np.float32)
    if network:
        model, _ = load_model(small_copy / system / "model")
        priors = load_priors(small_copy / system / "model" / "senones") if system.endswith("ce") else None
        loglikes = compute_loglikes(model, [Utterance(name, stack_frames(x, 3)) for name, x in read.items()], priors)
        graph = "network"
    else:
        graph = system.replace("_si", "")
        gmm = GmmModel.load(small_copy / "gmm" / graph)
        transform, gmms = gmm.feature_transform, gmm.first_pass
        loglikes = {n: np.ascontiguousarray(gmms.loglikes(transform.apply(x, [len(x)])).T) for n, x in read.items()}
    return decode_set(
        loglikes, small_copy / "graph" / f"{graph}.fst", lang.words, join=lang.words_of,
        **(SEARCH if system != "student_ce" else {"acoustic_scale": 0.3}),
    )  # fmt: skip


# ------------------------------------------------------------------ the run's words


@pytest.mark.parametrize("system", ["mono", "tri3_si", "ce", "lfmmi"])
def test_many_gives_the_words_of_the_run(small_run: Path, small_cuts: CutSet, tmp_path: Path, system: str) -> None:
    asr = load(small_run, system)
    found = asr.many(small_cuts)
    assert list(found) == [cut.id for cut in small_cuts]
    wanted = by_hand(small_run, system, small_cuts, tmp_path)
    assert {name: result.text.split() for name, result in found.items()} == wanted
    assert len({tuple(words) for words in wanted.values()}) > 3  # else anything would be right
    backwards = asr.many(reversed(list(small_cuts)))
    assert list(backwards) == [cut.id for cut in small_cuts][::-1] and backwards == found
    assert asr.per_speaker == (system != "lfmmi")


def test_a_run_that_was_moved_gives_the_same(
    small_run: Path, small_copy: Path, small_cuts: CutSet, monkeypatch
) -> None:
    before = load(small_run, "ce").many(small_cuts)
    monkeypatch.chdir(small_copy)
    assert load(".", "ce").many(small_cuts) == before
    assert hybrid.load(str(small_copy), system="ce").many(small_cuts) == before


def test_the_same_speech_in_any_form(small_run: Path, small_cuts: CutSet, tmp_path: Path) -> None:
    """A file, samples of any kind, a channel and a part of a longer one: the words are those of the cut."""
    asr = load(small_run, "lfmmi")
    assert asr.sampling_rate == RATE
    for cut in small_cuts:
        wanted = asr(cut)
        assert wanted == asr.many([cut])[cut.id] and wanted.seconds == pytest.approx(cut.duration)
        file = Path(cut.recording.sources[0].source)
        samples, _ = soundfile.read(file, dtype="float32")
        integers, _ = soundfile.read(file, dtype="int16")
        assert wanted == asr(file) == asr(str(file)) == asr(samples, RATE) == asr(integers, RATE)
        assert wanted == asr(samples[None], RATE) == asr(samples.tolist(), RATE)
        both = np.stack([np.roll(samples, 100), samples])
        assert wanted == asr(both, RATE, channel=1)
        soundfile.write(tmp_path / "stereo.flac", both.T, RATE, subtype="PCM_16")
        assert wanted == asr(tmp_path / "stereo.flac", channel=1)
        soundfile.write(tmp_path / "long.wav", np.pad(samples, (4000, 4000)), RATE)
        long = Recording.from_file(tmp_path / "long.wav")
        assert wanted == asr(MonoCut("part", 0.5, cut.duration, 0, recording=long))


def test_audio_of_another_rate_is_resampled(small_run: Path, small_cuts: CutSet, tmp_path: Path) -> None:
    asr = load(small_run, "lfmmi")
    cut = next(iter(small_cuts))
    for rate in (16000, 44100):
        samples = load_samples(cut, rate)
        soundfile.write(tmp_path / "a.wav", samples, rate, subtype="FLOAT")
        assert asr(tmp_path / "a.wav") == asr(samples, rate)
        assert asr(samples, rate).seconds == pytest.approx(cut.duration, abs=2 / RATE)


def test_alone_means_its_own_mean(small_run: Path, small_cuts: CutSet) -> None:
    """What cmvns per speaker sees one utterance as one speaker: in a set of one cut each, that is the same."""
    asr = load(small_run, "ce")
    for cut in small_cuts:
        bare = cut.drop_supervisions()
        assert asr(cut) == asr.many([cut])[cut.id] == asr.many([bare])[cut.id]
    alone = {cut.id: asr(cut) for cut in small_cuts}
    assert asr.many(cut.drop_supervisions() for cut in small_cuts) == alone != asr.many(small_cuts)


def test_the_result_as_json(small_run: Path, small_cuts: CutSet) -> None:
    result = load(small_run, "lfmmi")(next(iter(small_cuts)))
    words = result.text.split()
    assert words and [str(word) for word in result.words] == words
    nbest = [{"text": result.text, "cost": round(result.nbest(1)[0].cost, 4)}]
    said = [{"word": word.word, "start": word.start, "end": word.end, "conf": word.conf} for word in result.words]
    expected = {"text": result.text, "words": said, "nbest": nbest}
    assert json.loads(json.dumps(result.to_dict())) == {**expected, "final": True}
    assert len(result.to_dict(nbest=5)["nbest"]) == len(result.nbest(5))


@pytest.mark.parametrize("system", ["mono", "lfmmi"])
def test_words_have_times_in_their_order_within_the_audio(small_run: Path, small_cuts: CutSet, system: str) -> None:
    asr = load(small_run, system)
    shift = 0.01 if system == "mono" else 0.03
    for cut in small_cuts:
        result = asr(cut)
        assert result.words
        times = [time for word in result.words for time in (word.start, word.end)]
        assert times == sorted(times) and 0 <= times[0] and times[-1] <= result.seconds + shift
        assert all(word.end >= word.start + shift - 1e-6 for word in result.words)
        steps = np.array(times) / shift
        assert steps == pytest.approx(np.round(steps), abs=0.05)


@pytest.mark.parametrize("system", ["mono", "lfmmi"])
def test_alternatives_come_best_first_and_once(small_run: Path, small_cuts: CutSet, system: str) -> None:
    asr = load(small_run, system)
    scale = asr.search.acoustic_scale / (100 if system == "mono" else 1)
    asr._wording.search = replace(asr.search, acoustic_scale=scale)
    for cut in small_cuts:
        result = asr(cut)
        assert result.lattice is not None and result.lattice.num_frames > 0
        nbest = result.nbest(8)
        assert nbest[0].text == result.text and nbest[:3] == result.nbest(3)
        assert len({other.text for other in nbest}) == len(nbest) > 1
        costs = [other.cost for other in nbest]
        assert costs == sorted(costs) and costs[0] == pytest.approx(
            result.lattice.best_path(result.acoustic_scale).cost
        )


# ------------------------------------------------------------------ which system, which scale


def test_the_best_on_the_development_set_is_taken(small_run: Path) -> None:
    """tri3 is better, but takes more than one pass; in noise Gaussians win, the later of two equal ones."""
    assert load(small_run).system == "lfmmi"
    assert load(small_run, condition="noisy").system == "ce"
    assert repr(load(small_run)).startswith("Recogniser('lfmmi', 8000 Hz, ")


def test_scale_and_penalty_are_what_dev_chose(small_run: Path) -> None:
    assert vars(load(small_run, "ce").search) == SEARCH
    assert load(small_run, "ce", condition="noisy").search.acoustic_scale == pytest.approx(0.5)
    with pytest.raises(DataError, match="'outdoors'.*use one of clean, noisy"):
        load(small_run, "ce", condition="outdoors")


@pytest.mark.parametrize("system, scale", [("student_ce", 0.3), ("lfmmi", 1.0), ("mono", 0.1)])
def test_without_a_decode_a_usual_scale_is_taken_and_said(small_copy: Path, system: str, scale: float) -> None:
    shutil.rmtree(small_copy / "decode")
    with pytest.warns(UserWarning, match=f"{system} .*was not decoded.*{scale:g} is taken") as noted:
        asr = load(small_copy, system)
    assert noted[0].filename == __file__
    assert (asr.search.acoustic_scale, asr.search.word_penalty) == (scale, 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning):
            load(small_copy, system)


def test_config_says_whether_outputs_are_posteriors(small_copy: Path, small_cuts: CutSet) -> None:
    """Where it does, that counts, and not which files lie there."""
    before = load(small_copy, "ce").many(small_cuts)
    path = small_copy / "ce" / "model" / "config.json"
    write_json(path, {**read_json(path), "outputs": "likelihoods"})
    assert load(small_copy, "ce").many(small_cuts) != before
    write_json(path, {**read_json(path), "outputs": "posteriors"})
    assert load(small_copy, "ce").many(small_cuts) == before
    (small_copy / "ce" / "model" / "senones" / "priors.safetensors").unlink()
    with pytest.raises(ModelError, match="priors.safetensors"):
        load(small_copy, "ce")


@pytest.mark.parametrize(
    "system, words",
    [
        ("tri3", "adapts to each speaker.*tri3_si"),
        ("tri9", "no system 'tri9'.*use one of mono, tri3_si, ce, lfmmi, student_ce"),
        ("teacher", "no system 'teacher'"),
    ],
)
def test_systems_that_cannot_be_loaded(small_run: Path, system: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load(small_run, system)


# ------------------------------------------------------------------ what lacks or is broken


def _remove(path: str):
    def remove(small_copy: Path) -> None:
        target = small_copy / path
        shutil.rmtree(target) if target.is_dir() else target.unlink()

    return remove


def _text(path: str, text: str):
    return lambda small_copy: (small_copy / path).write_text(text)


@pytest.mark.parametrize(
    "break_it, system, kind, file",
    [
        (_remove("lang"), "ce", DataError, "lang"),
        (_remove("graph/network.fst"), "ce", GraphError, "graph/network.fst"),
        (_text("graph/network.fst", "no graph"), "ce", GraphError, "graph/network.fst"),
        (_remove("ce/model/model.safetensors"), "ce", ModelError, "ce/model/model.safetensors"),
        (_remove("ce/model/features.json"), "ce", DataError, "ce/model/features.json"),
        (_text("ce/model/features.json", "{}"), "ce", ModelError, "ce/model/features.json"),
        (_text("ce/model/features.json", '{"logmel": {"kind": "x"}}'), "ce", ModelError, "ce/model/features.json"),
        (_text("ce/model/config.json", "{"), "lfmmi", DataError, "ce/model/config.json"),
        (_text("decode/ce/clean/dev/wer.json", "{}"), "ce", ModelError, "decode/ce/clean/dev/wer.json"),
        (_text("decode/ce/clean/dev/wer.json", "["), "ce", DataError, "decode/ce/clean/dev/wer.json"),
        (_remove("gmm/mono/senones"), "mono", DataError, "gmm/mono/senones"),
        (_remove("gmm/mono/features.json"), "mono", DataError, "gmm/mono/features.json"),
        (_remove("results.json"), None, DataError, "results.json"),
        (_text("results.json", "[]"), None, DataError, "results.json"),
        (_text("results.json", "{}"), None, DataError, "results.json"),
    ],
)
def test_what_lacks_is_named_with_a_remedy(small_copy: Path, break_it, system, kind, file: str) -> None:
    break_it(small_copy)
    with pytest.raises(kind) as error:
        load(small_copy, system)
    assert str(error.value.file).startswith(str(small_copy / file)) and error.value.remedy


def test_folders_that_are_no_runs(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError) as error:
            load(path)
        assert error.value.file == str(path) and "--exp" in str(error.value.remedy)


def test_graph_and_model_of_two_runs(small_copy: Path) -> None:
    shutil.copy(small_copy / "graph" / "mono.fst", small_copy / "graph" / "network.fst")
    with pytest.raises(GraphError, match="network.fst"):
        load(small_copy, "ce")


def test_a_graph_with_words_that_the_lexicon_lacks(small_copy: Path) -> None:
    Lang.create(gmm_tools.Lexicon.from_dict({"A": ["a"]})).save(small_copy / "lang")
    with pytest.raises(ModelError, match="the graph has words up to.*graph stage"):
        load(small_copy, "ce")


@pytest.fixture(scope="module")
def asr(small_run: Path) -> Recogniser:
    return load(small_run, "lfmmi")


@pytest.mark.parametrize(
    "call, kind, words",
    [
        (lambda asr: asr("nowhere.wav"), DataError, "nowhere.wav"),
        (lambda asr: asr(np.zeros(8000)), ConfigError, "rate of None.*16000"),
        (lambda asr: asr(np.zeros(8000), 0), ConfigError, "rate of 0"),
        (lambda asr: asr(np.zeros((2, 8000)), 8000), DataError, "2 channels.*channel=0"),
        (lambda asr: asr(np.ones((2, 8000)), 8000, channel=2), DataError, "no channel 2: there are 2"),
        (lambda asr: asr(np.ones(8000), 8000, channel=1), DataError, "no channel 1"),
        (lambda asr: asr(np.ones((1, 2, 3)), 8000), DataError, r"shape \[1, 2, 3\]"),
        (lambda asr: asr(np.array(["a"]), 8000), DataError, "type <U1"),
        (lambda asr: asr(np.full(8000, np.nan), 8000), DataError, "NaN"),
        (lambda asr: asr(np.ones(10), 8000), DataError, "shorter than one window.*samples"),
        (lambda asr: asr("a.wav", 8000), ConfigError, "leave it out"),
    ],
)
def test_audio_that_cannot_be(asr: Recogniser, call, kind, words: str) -> None:
    with pytest.raises(kind, match=words) as error:
        call(asr)
    assert error.value.remedy


def test_cuts_that_cannot_be_used_are_named(asr: Recogniser, small_cuts: CutSet, tmp_path: Path) -> None:
    first, second, *_ = small_cuts
    shutil.copy(second.recording.sources[0].source, tmp_path / "gone.wav")
    gone = MonoCut("gone", 0.0, 0.5, 0, recording=Recording.from_file(tmp_path / "gone.wav"))
    (tmp_path / "gone.wav").unlink()
    problems = Problems(tmp_path / "problems.jsonl", "recognise")
    found = asr.many([first, gone, second.truncate(duration=0.01).with_id("short")], problems)
    assert list(found) == [first.id] and found[first.id] == asr(first)
    assert [row["utterance"] for row in problems.rows] == ["gone", "short"]
    with pytest.raises(HybridError, match="gone"):
        asr.many([gone])
    with pytest.raises(DataError, match="two cuts of one id"):
        asr.many([first, first])
    assert asr.many([]) == {}


# ------------------------------------------------------------------ what a network reads


@pytest.mark.parametrize("cmvn", ["speaker", "utterance", "speaker+variance", "utterance+variance", "none"])
def test_network_input(cmvn: str) -> None:
    rng = np.random.default_rng(0)
    features = {name: rng.normal(3, 2, (length, 4)).astype("f") for name, length in (("a", 7), ("b", 9), ("c", 6))}
    found = network_input(features, {"a": "s", "b": "s", "c": "t"}, cmvn)
    assert {name: x.shape for name, x in found.items()} == {"a": (3, 12), "b": (3, 12), "c": (2, 12)}
    groups = {"speaker": ["ab", "c"], "utterance": ["a", "b", "c"], "none": []}[cmvn.partition("+")[0]]
    for group in groups:
        frames = np.concatenate([found[name].reshape(-1, 4)[: len(features[name])] for name in group])
        assert frames.mean(0) == pytest.approx(np.zeros(4), abs=1e-5)
        if cmvn.endswith("variance"):
            assert frames.std(0) == pytest.approx(np.ones(4), abs=1e-4)
    if not groups:
        np.testing.assert_array_equal(found["c"].reshape(-1, 4), features["c"])


@pytest.mark.parametrize("cmvn", ["", "speakers", "none+variance", "speaker+mean"])
def test_normalisations_that_are_none(cmvn: str) -> None:
    with pytest.raises(ConfigError, match="cmvn is"):
        network_input({"a": np.ones((3, 2))}, None, cmvn)
