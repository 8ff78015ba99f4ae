"""What networks train on, read from disk: bit for bit what it is in memory, whatever is killed or damaged."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from recipe_tools import recipe_run
from speech_tools import SMALL, held, make_speech_run, senones_of

from hybrid.data.arrays import iterate_arrays, write_arrays
from hybrid.data.batches import Batches, Utterance
from hybrid.data.copy_sampling import CopySampler
from hybrid.data.utterances import JoinedUtterances
from hybrid.errors import DataError
from hybrid.io import read_json, read_jsonl
from hybrid.lexicon.lang import Lang
from hybrid.nnet.model_io import load_model
from hybrid.nnet.priors import count_priors, load_priors
from hybrid.pipeline.alignments import by_frame, open_alignments, segments_of
from hybrid.pipeline.network import batches, network_seed, new_model, perturbations, speech
from hybrid.pipeline.numerators import numerator_maker, with_numerators
from hybrid.pipeline.phones import phones_of_pdfs
from hybrid.pipeline.senones import WaitingSegments
from hybrid.pipeline.sets import set_list
from hybrid.pipeline.systems import system
from hybrid.pipeline.train_ce import train_ce
from hybrid.pipeline.train_lfmmi import PhoneSequences, train_lfmmi
from hybrid.train.ce import CrossEntropy
from hybrid.train.chunks import Chunks, split
from hybrid.train.config import TrainerConfig
from hybrid.train.denominator import make_denominator
from hybrid.train.lfmmi import LfMmi
from hybrid.train.numerator import Numerators
from hybrid.train.phone_lm import load_phone_lm, train_phone_lm
from hybrid.train.trainer import Trainer

CMVN = ["speaker", "speaker+variance", "utterance", "utterance+variance", "online", "none"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_speech_run(tmp_path_factory.mktemp("speech"))


@pytest.fixture()
def exp(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "exp")


def opened(exp: Path, *settings: str) -> Any:
    return recipe_run(exp, *SMALL, *settings)


def state_of(model: Any) -> Dict[str, torch.Tensor]:
    return dict(model.state_dict())


def check_same(one: Dict[str, torch.Tensor], other: Dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys() and one
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.mark.parametrize("cmvn", CMVN)
def test_utterances_are_those_of_memory(made: Path, cmvn: str) -> None:
    run = opened(made, f'model.cmvn="{cmvn}"')
    names = set_list(run).training
    data, expected = speech(run, names), held(run, names)
    assert len(data) == len(expected) == 6 * 11
    assert data.lengths.tolist() == [utterance.num_frames for utterance in expected]
    assert any(len(u.pdfs) < len(read) for u, read in zip(expected, _whole(run)))  # one is cut
    for place in np.random.default_rng(0).permutation(len(data)).tolist():
        found, wanted = data[place], expected[place]
        assert (found.id, found.extra) == (wanted.id, wanted.extra) and data.id(place) == wanted.id
        for one, other in ((found.features, wanted.features), (found.pdfs, wanted.pdfs)):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(data.features(place), wanted.features)


def _whole(run: Any) -> List[np.ndarray]:
    alignments = open_alignments(run, "train")
    return [alignments.pdfs(place) for place in range(len(alignments))]


def test_input_statistics_and_copies(made: Path) -> None:
    run = opened(made)
    names = set_list(run).training
    data, expected = speech(run, names), held(run, names)
    # As they were taken of all matrices at once.
    frames = sum(utterance.num_frames for utterance in expected)
    mean = np.sum([u.features.sum(0, dtype=np.float64) for u in expected], axis=0) / frames
    square = np.sum([np.square(u.features - mean).sum(0) for u in expected], axis=0) / frames
    wanted = new_model(run, system("ce"), expected, 5)
    wanted.set_input_stats(mean, np.sqrt(square))
    for source in (data, expected):
        check_same(state_of(new_model(run, system("ce"), source, 5)), state_of(wanted))
    taken = batches(run, data, 60, train=True)
    for number in range(3):
        ids = [data.id(place) for place in sorted(sum(taken.epoch(number).indices, []))]
        assert len(ids) == len(set(ids)) == 11 * 3  # of each: its two speeds clean, one of four noisy copies
        assert sum("_noisy" in name for name in ids) == 11
        assert {name.split("_")[0] for name in ids} == {f"train-{n}" for n in range(11)}


def memory_ce(run: Any, folder: Path, exp: Path) -> Any:
    """A training of CE on lists in memory."""
    names = set_list(run).training
    data, dev = held(run, names), held(run, ["dev_clean"])
    model = new_model(run, system("ce"), data, senones_of(exp).num_pdfs)
    return _fit(run, "ce", model, CrossEntropy(run.settings.ce.label_smoothing), data, dev, folder), data


def _fit(run: Any, name: str, model: Any, criterion: Any, data: List[Utterance], dev: List[Utterance], folder: Path):
    settings = getattr(run.settings, name)
    pools: Dict[Any, int] = {}
    noisy = ["_noisy" in utterance.id for utterance in data]
    bases = [utterance.extra["clean_cut"].removesuffix("_sp0.9") for utterance in data]
    numbers = [pools.setdefault(pool, len(pools)) for pool in zip(noisy, bases)]
    copies = [hash(utterance.extra.get("of", utterance.id)) for utterance in data]
    choose = CopySampler(numbers, copies, [1 if one else 2 for one in noisy])
    train = Batches(data, settings.batch_frames, network_seed(run), transform=perturbations(run), choose=choose)
    dev_batches = Batches(dev, settings.batch_frames, network_seed(run), shuffle=False)
    config = TrainerConfig.from_dict(settings.trainer)
    return Trainer(model, criterion, train, dev_batches, config, folder, network_seed(run), log=lambda _: None).fit()


def test_ce_from_disk_has_the_parameters_of_memory(exp: Path, tmp_path: Path) -> None:
    run = opened(exp)
    (exp / "ce").mkdir()
    train_ce(run, system("ce"))
    found, _ = load_model(exp / "ce" / "model")
    wanted, data = memory_ce(opened(exp), tmp_path / "memory", exp)
    check_same(state_of(found), state_of(wanted))
    priors = count_priors([utterance.pdfs for utterance in data], senones_of(exp).num_pdfs)
    np.testing.assert_array_equal(load_priors(exp / "ce" / "model" / "senones"), priors)


@pytest.mark.parametrize("chunk_frames", [0, 7])
def test_lfmmi_from_disk_has_the_parameters_of_memory(exp: Path, tmp_path: Path, chunk_frames: int) -> None:
    run = opened(exp, f"lfmmi.chunk_frames={chunk_frames}", "lfmmi.phone_lm.smoothing=none")
    (exp / "lfmmi").mkdir()
    train_lfmmi(run, system("lfmmi"))
    found, _ = load_model(exp / "lfmmi" / "model")

    lang, senones = Lang.load(exp / "lang"), senones_of(exp)
    segments = {
        cut.id: segments_of(arrays["phones"])
        for name in ("train", "train_sp0.9", "dev_clean")
        for cut, arrays in iterate_arrays(exp / "senones" / "ali" / name, "phones")
    }
    settings = run.settings.lfmmi
    order = {"order": settings.phone_lm.order, "no_prune_order": settings.phone_lm.no_prune_order,
             "max_extra_states": settings.phone_lm.max_extra_states, "smoothing": "none"}  # fmt: skip
    sequences = {name: phones.tolist() for name, (phones, _) in segments.items() if name.startswith("train")}
    phone_lm = train_phone_lm(sequences, phones=lang.phone_ids, **order)
    assert phone_lm == load_phone_lm(exp / "lfmmi" / "phone_lm.json")
    chunks, numerators = Chunks(phone_lm, senones), Numerators(phone_lm, senones, lang)

    def supervised(data: List[Utterance]) -> List[Utterance]:
        pieces = []
        for utterance in data:
            phones, durations = segments[utterance.extra["clean_cut"]]
            durations = durations.copy()
            durations[-1] -= durations.sum() - utterance.num_frames
            bounds = split(utterance.num_frames, chunk_frames) if chunk_frames else [(0, utterance.num_frames)]
            try:
                graphs = [
                    chunks.numerator(phones, durations, *piece, tolerance=settings.tolerance, utterance=utterance.id)
                    if chunk_frames else numerators.from_alignment(phones, durations, settings.tolerance, utterance.id)
                    for piece in bounds
                ]  # fmt: skip
            except DataError:
                continue
            for (begin, end), graph in zip(bounds, graphs):
                name = utterance.id if len(bounds) == 1 else f"{utterance.id}-{begin}"
                extra = {**utterance.extra, "numerator": graph, "of": utterance.id}
                pieces.append(Utterance(name, utterance.features[begin:end], utterance.pdfs[begin:end], extra))
        return pieces

    data, dev = (supervised(held(run, names)) for names in (set_list(run).training, ["dev_clean"]))
    left_out = {row["utterance"] for row in read_jsonl(exp / "lfmmi" / "problems.jsonl")}
    assert not left_out & {u.extra["of"] for u in data + dev}
    assert len({u.extra["of"] for u in data + dev} | left_out) == 7 * 11
    if chunk_frames:
        assert any(utterance.id != utterance.extra["of"] for utterance in data)
    denominator = chunks.denominator if chunk_frames else make_denominator(phone_lm, senones)
    criterion = LfMmi(denominator, senones.num_pdfs, phones=phones_of_pdfs(senones, lang), **asdict(settings.criterion))
    model = new_model(
        run, system("lfmmi"), data, senones.num_pdfs, xent_head=settings.criterion.xent_regularize > 0,
        dropout=settings.dropout,
    )  # fmt: skip
    check_same(state_of(found), state_of(_fit(run, "lfmmi", model, criterion, data, dev, tmp_path / "memory")))


class Killed(Exception):
    pass


def test_a_training_killed_and_gone_on_with_has_the_same_parameters(
    exp: Path, capsys: pytest.CaptureFixture
) -> None:
    (exp / "ce").mkdir()
    train_ce(opened(exp), system("ce"))
    whole = state_of(load_model(exp / "ce" / "model")[0])
    shutil.rmtree(exp / "ce")
    (exp / "ce").mkdir()
    run = opened(exp, "ce.trainer.checkpoint_minutes=1e-9")
    fit, updates = Trainer._update, [0]

    def killed(self: Any, loader: Any) -> Any:
        updates[0] += 1
        if updates[0] in (3, 8):
            raise Killed
        return fit(self, loader)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_update", killed)
        for _ in range(2):
            with pytest.raises(Killed):
                train_ce(run, system("ce"))
        train_ce(run, system("ce"))
    assert capsys.readouterr().out.count("going on from") == 2
    check_same(state_of(load_model(exp / "ce" / "model")[0]), whole)


def test_several_workers_are_handed_an_index(exp: Path) -> None:
    run = opened(exp)
    data = speech(run, set_list(run).training)
    train = batches(run, data, 60, train=True)
    payload = pickle.dumps(train)
    assert len(payload) < 60_000 and data.features(0).tobytes() not in payload
    again = pickle.loads(payload)
    for one, other in zip(train.epoch(3), again.epoch(3), strict=True):
        assert one.ids == other.ids and one.features.equal(other.features) and one.pdfs.equal(other.pdfs)
    make = numerator_maker(run, Lang.load(exp / "lang"), _phone_lm(run, exp), senones_of(exp), "lfmmi")
    (exp / "lfmmi").mkdir()
    supervised = with_numerators(run, data, make, run.problems("lfmmi"))
    for one in (supervised, pickle.loads(pickle.dumps(supervised))):
        graph, wanted = one[5].extra["numerator"], supervised[5].extra["numerator"]
        for name in ("src", "dst", "pdf", "logw", "start", "final", "first", "last"):
            np.testing.assert_array_equal(getattr(graph, name), getattr(wanted, name))


def _phone_lm(run: Any, exp: Path) -> Any:
    return train_phone_lm(PhoneSequences(run, Lang.load(exp / "lang"), speech(run, ["train"]), 0), order=2)


@pytest.mark.parametrize("kind", ["alignment", "words"])
def test_those_without_a_numerator_are_named_once_each(exp: Path, kind: str) -> None:
    run = opened(exp, f"lfmmi.numerators={kind}", "lfmmi.phone_lm.smoothing=none")
    lang, data = Lang.load(exp / "lang"), speech(run, ["train", "train_noisy1", "dev_clean"])
    few = train_phone_lm({"a": next(iter(PhoneSequences(run, lang, data, 0).items()))[1]}, order=3)
    make = numerator_maker(run, lang, few, senones_of(exp), "lfmmi")
    (exp / "lfmmi").mkdir()
    problems = run.problems("lfmmi")
    supervised = with_numerators(run, data, make, problems)
    lost = [row["utterance"] for row in problems.rows]
    assert 0 < len(supervised) < len(data) and len(lost) == len(set(lost)) == len(data) - len(supervised)
    assert all("phone LM covers none" in row["reason"] or "too short" in row["reason"] for row in problems.rows)
    assert {supervised.id(index) for index in range(len(supervised))} | set(lost) == {
        data.id(index) for index in range(len(data))
    }
    assert ("train-0_noisy1" in lost) == ("train-0" in lost)


def test_damage_is_named_before_and_during_a_training(exp: Path) -> None:
    run = opened(exp)
    data = speech(run, ["train"])
    path = exp / "features" / "train" / "logmel" / "shards" / "logmel.000001.tar"
    good = path.read_bytes()
    path.write_bytes(good[:3000])
    with pytest.raises(DataError, match="changed since it was opened") as caught:
        list(Batches(data, 1000).epoch(0))
    assert caught.value.file == str(path) and caught.value.utterance.startswith("train-")
    with pytest.raises(DataError, match="damaged after it was written") as caught:
        speech(run, ["train"])
    assert caught.value.file == str(path)
    path.write_bytes(good)
    ali = exp / "senones" / "ali" / "train" / "shards" / "pdfs.000000.tar"
    ali.unlink()
    with pytest.raises(DataError, match="cannot be read") as caught:
        data[0]
    assert caught.value.file == str(ali) and caught.value.utterance == "train-0"


def rewrite(folder: Path, name: str, change: Any) -> None:
    rows = [(cut, {name: change(number, arrays[name])}) for number, (cut, arrays) in
            enumerate(iterate_arrays(folder, name))]  # fmt: skip
    write_arrays(folder, rows, names=[name], frame_shift=0.01, shard_size=5)


BAD = {
    "not finite": lambda number, x: np.full_like(x, np.nan) if number == 4 else x,
    "of alignment": lambda number, x: x[:-9] if number == 4 else x,
    "features a frame where the others have 8": lambda number, x: x[:, :5] if number == 4 else x,
}


@pytest.mark.parametrize("words", BAD)
def test_what_cannot_be_used_is_named_when_it_is_opened(exp: Path, words: str) -> None:
    rewrite(exp / "features" / "train" / "logmel", "logmel", BAD[words])
    with pytest.raises(DataError, match=words) as caught:
        speech(opened(exp), ["train"])
    assert caught.value.utterance == "train-4"


def test_what_has_no_alignment_may_be_anything(exp: Path) -> None:
    last = 11  # has none
    rewrite(exp / "features" / "train" / "logmel", "logmel", lambda number, x: x[:0] if number == last else x)
    assert len(speech(opened(exp), ["train"])) == 11


def test_an_old_layout_is_told_from_ours(exp: Path) -> None:
    rewrite(exp / "senones" / "ali" / "train", "pdfs", lambda number, x: x)
    with pytest.raises(DataError, match="no arrays 'phones'.*run the stage that writes them again"):
        speech(opened(exp), ["train"])


def test_sources_one_after_the_other(made: Path) -> None:
    run = opened(made)
    parts = [speech(run, ["train"]), speech(run, ["train_noisy1"])]
    joined, both = JoinedUtterances(parts), speech(run, ["train", "train_noisy1"])
    assert joined.lengths.tolist() == both.lengths.tolist() and joined.dim == both.dim
    for place in (0, 10, 11, 21, -1):
        assert joined[place].id == both[place].id
        np.testing.assert_array_equal(joined[place].features, both[place].features)
    with pytest.raises(DataError, match="stands twice") as caught:
        JoinedUtterances([parts[0], parts[0]])
    assert caught.value.utterance == "train-0"
    with pytest.raises(DataError, match="no utterances"):
        JoinedUtterances([])


def test_phones_wait_for_the_tree_in_a_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    waiting = WaitingSegments(tmp_path / "segments.i32")
    rows = {f"ü{n}": rng.integers(1, 99, (2, int(rng.integers(0, 9)))).astype(np.int32) for n in range(12)}
    with waiting.writing() as add:
        for identifier, (phones, durations) in rows.items():
            add(identifier, phones, durations)
    assert len(waiting) == 12 and list(waiting.ids) == list(rows)
    for number in rng.permutation(12).tolist():
        np.testing.assert_array_equal(waiting.read(number), rows[waiting.ids[number]])


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 9)), min_size=1, max_size=20))
def test_phones_by_frame(segments: list) -> None:
    phones, durations = (np.array(column, np.int32) for column in zip(*segments))
    frames = by_frame(phones, durations)
    assert len(frames) == durations.sum() and np.abs(frames).tolist() == np.repeat(phones, durations).tolist()
    for found, wanted in zip(segments_of(frames), (phones, durations)):
        assert found.dtype == np.int32 and found.tolist() == wanted.tolist()


def test_segments_of_the_set_are_those_written(made: Path) -> None:
    run = opened(made)
    alignments = open_alignments(run, "train")
    for place, (name, phones) in enumerate(alignments.sequences()):
        found, durations = alignments.segments(place)
        assert name == f"train-{place}" and found.tolist() == phones.tolist()
        assert durations.sum() == alignments.lengths[place] == len(alignments.pdfs(place))
    assert read_json(made / "features" / "features.json")["logmel"]["num_filters"] == 8
