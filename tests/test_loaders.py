"""Trainings on streamed shards by a schedule: all of it is heard, exactly resumed, at the rates of the chunks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from test_trainer import DIM, PDFS, Killed, parameters, same, stop_at, utterances_of, without_times

from hybrid.data.batches import Batches
from hybrid.data.packing import pack
from hybrid.data.specaugment import SpecAugment
from hybrid.data.stream import ShardStream, open_source
from hybrid.errors import ConfigError, DataError
from hybrid.io import read_jsonl
from hybrid.nnet.lstm import LstmConfig, LstmModel
from hybrid.train.bmuf import BmufConfig
from hybrid.train.ce import CrossEntropy
from hybrid.train.loaders import Streamed
from hybrid.train.schedule import ScheduleConfig
from hybrid.train.scheduled import Scheduled, parse
from hybrid.train.trainer import Trainer, TrainerConfig

SHIFT = 0.03
TEXT = "2*(unlabelled 50%, labelled 100% @2), labelled 50% @0.5"
CONFIGS = {
    "plain": TrainerConfig(epochs=3, lr=5e-3, accumulate=2, checkpoint_updates=2, log_every=1),
    "sum": TrainerConfig(epochs=3, lr=5e-3, accumulate=2, workers=2, checkpoint_updates=2, log_every=1),
    "gtc": TrainerConfig(
        epochs=3, lr=5e-3, accumulate=2, workers=2, checkpoint_updates=2, log_every=1, strategy="gtc", gtc_density=0.1
    ),
    "bmuf": TrainerConfig(
        epochs=3, lr=5e-3, workers=2, checkpoint_updates=2, log_every=1, strategy="bmuf", bmuf=BmufConfig(3)
    ),
}  # fmt: skip
CONFIGS = {name: replace(config, schedule=ScheduleConfig("constant")) for name, config in CONFIGS.items()}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Two sources: 11 utterances in shards of 2, 23 in shards of 3."""
    folder = tmp_path_factory.mktemp("packed")
    for name, count, size, seed in (("labelled", 11, 2, 1), ("unlabelled", 23, 3, 3)):
        pack(folder / name, utterances_of(count, seed), frame_shift=SHIFT, shard_size=size)
    return folder


def data_of(folder, text=TEXT, **more) -> Streamed:
    names = ["labelled", "unlabelled"]
    sources = [open_source(folder / name) for name in names]
    hours = {name: source.frames * SHIFT / 3600 for name, source in zip(names, sources)}
    options = {"window": 7, "transform": SpecAugment(stack=1, band_width=2), **more}
    return Streamed(Scheduled(parse(text), hours, 5), ShardStream(sources, 60, **options), names, 5, SHIFT)


def trainer_of(folder, packed, name, **more) -> Trainer:
    model = LstmModel(LstmConfig(DIM, PDFS, hidden=12, layers=1, bidirectional=True, dropout=0.3), seed=1)
    dev = Batches(utterances_of(5, 2), 60, shuffle=False)
    data = more.pop("data", None) or data_of(packed)
    options = {"log": lambda message: None, **more}
    return Trainer(model, CrossEntropy(), data, dev, CONFIGS[name], Path(folder), seed=9, **options)


def test_how_many_updates_are_left_follows_from_how_full_batches_were(packed):
    data = data_of(packed, "5*(unlabelled 100%, labelled 100%)")
    told, counted = [], []
    for piece in range(data.pieces(0)):
        loader = data.loader(0, piece, None, 2, 0, 1)
        told.append(loader.total)
        counted.append(0)
        while not loader.ended:
            loader.take()
            counted[-1] += 1
            if counted[-1] == 2:  # as after a kill
                assert abs(data.loader(0, piece, loader.position, 2, 0, 1).total - (told[-1] - 2)) <= 1
    off = [abs(one - other) / other for one, other in zip(told, counted)]
    assert off[0] > 0.1 and max(off[1:]) <= 1 / min(counted), (told, counted)


@pytest.mark.parametrize("name", CONFIGS)
def test_all_that_the_schedule_says_is_heard_at_its_rates(tmp_path, packed, name):
    trainer = trainer_of(tmp_path, packed, name)
    trainer.fit()
    rows = read_jsonl(tmp_path / "log.jsonl")
    data = data_of(packed)
    frames = {s: data.stream.sources[i].frames for i, s in enumerate(data.sources)}
    wanted = [sum(int(frames[p.source][shard]) for p in sub for shard in p.shards) for sub in data.plan]
    assert [row["frames"] for row in rows if row["split"] == "train"] == wanted
    assert wanted[0] + wanted[1] == 2 * frames["labelled"].sum() + frames["unlabelled"].sum()
    assert {row["lr"] for row in rows if row["split"] == "update"} == {5e-3, 1e-2, 2.5e-3}
    dev = [row["loss"] for row in rows if row["split"] == "dev"]
    assert len(dev) == 3 and dev[-1] < dev[0]


def test_one_worker_hears_the_same_with_any_number_of_loaders(tmp_path, packed):
    def fitted(loaders):
        return trainer_of(tmp_path / str(loaders), packed, "plain", data=data_of(packed, loaders=loaders)).fit()

    assert same(parameters(fitted(0)), parameters(fitted(2)))


@pytest.mark.parametrize("updates", [(1,), (4, 5, 9)])
def test_goes_on_exactly_in_the_middle_of_a_chunk(tmp_path, packed, updates):
    wanted = parameters(trainer_of(tmp_path / "whole", packed, "plain").fit())
    on_update = stop_at(*updates)
    for _ in updates:
        with pytest.raises(Killed):
            trainer_of(tmp_path / "stopped", packed, "plain", on_update=on_update).fit()
    assert same(parameters(trainer_of(tmp_path / "stopped", packed, "plain").fit()), wanted)
    assert without_times(tmp_path / "stopped") == without_times(tmp_path / "whole")


@pytest.mark.parametrize("name", ["gtc", "bmuf"])
def test_several_workers_go_on_exactly_after_sigkill(tmp_path, packed, name):
    wanted = parameters(trainer_of(tmp_path / "whole", packed, name).fit())
    folder = tmp_path / "killed"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(folder), str(packed), name, "7"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    said = []
    assert same(parameters(trainer_of(folder, packed, name, log=said.append).fit()), wanted)
    assert "going on from" in said[0]


def test_a_shard_that_cannot_be_read_is_named_and_the_training_goes_on(tmp_path, packed):
    data = data_of(packed, max_problems=0.6)
    mark = data.stream.sources[1].folder / "marks" / "000004.json"
    text = mark.read_text()
    mark.write_text("{")
    try:
        said = []
        trainer_of(tmp_path / "run", packed, "sum", data=data, log=said.append).fit()
        named = [row["problem"] for row in read_jsonl(tmp_path / "run" / "log.jsonl") if row["split"] == "problem"]
        assert len(named) == 1 and named[0].startswith("shard 000004 of ")
        assert [line for line in said if "left out" in line] == [f"left out: {named[0]}"]
        with pytest.raises(DataError, match="000004"):
            trainer_of(tmp_path / "strict", packed, "sum").fit()
    finally:
        mark.write_text(text)


def test_other_shards_than_those_begun_with_are_refused(tmp_path, packed):
    with pytest.raises(Killed):
        trainer_of(tmp_path, packed, "plain", on_update=stop_at(4)).fit()
    other = data_of(packed, TEXT.replace("@2", "@3"))
    with pytest.raises(ConfigError, match="other settings or data"):
        trainer_of(tmp_path, packed, "plain", data=other).fit()


def test_several_sets_of_one_name_are_one_source(tmp_path, packed):
    """The shards of a source in two folders: the same shards are drawn, the same utterances heard."""
    whole, first = utterances_of(23, 3), 9
    for name, part in (("first", whole[:first]), ("then", whole[first:])):
        pack(tmp_path / name, part, frame_shift=SHIFT, shard_size=3)
    opened = [open_source(folder) for folder in (packed / "labelled", tmp_path / "first", tmp_path / "then")]
    names = ["labelled", "unlabelled", "unlabelled"]
    hours = {name: [] for name in names}
    for name, source in zip(names, opened):
        hours[name] += (source.frames * SHIFT / 3600).tolist()
    stream = ShardStream(opened, 60, window=7, transform=SpecAugment(stack=1, band_width=2))
    parted, plain = Streamed(Scheduled(parse(TEXT), hours, 5), stream, names, 5, SHIFT), data_of(packed)
    assert parted.plan == plain.plan and parted.table() == plain.table()
    for epoch in range(plain.epochs):
        for piece in range(plain.pieces(epoch)):
            heard = []
            for data in (parted, plain):
                loader = data.loader(epoch, piece, None, 1, 0, 1)
                heard.append([])
                while not loader.ended:
                    heard[-1] += [(item.ids(), item.load().features.sum().item()) for item in loader.take()]
            assert heard[0] == heard[1] and heard[0]


if __name__ == "__main__":
    folder, packed_, name_, update = sys.argv[1:]

    def kill(trainer):
        if trainer.state.update == int(update):
            os.kill(os.getpid(), signal.SIGKILL)

    trainer_of(folder, Path(packed_), name_, on_update=kill).fit()
