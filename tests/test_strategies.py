"""Several workers that train one model: by sums, torch's DDP, compressed gradients, blocks."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from test_trainer import (
    DIM,
    PDFS,
    SETTINGS,
    Killed,
    parameters,
    same,
    stop_at,
    trainer_of,
    utterances_of,
    without_times,
)

from hybrid.data.batches import Batches
from hybrid.data.specaugment import SpecAugment
from hybrid.errors import ConfigError, HybridError, ModelError
from hybrid.io import read_jsonl
from hybrid.nnet.lstm import LstmConfig, LstmModel
from hybrid.train.bmuf import BmufConfig, flat
from hybrid.train.loaders import PendingBatch
from hybrid.train.schedule import ScheduleConfig
from hybrid.train.trainer import TrainerConfig

PLAIN = replace(SETTINGS, accumulate=1, checkpoint_updates=0, checkpoint_minutes=0.0)
STRATEGIES = {
    "ddp": TrainerConfig(strategy="ddp"),
    "gtc": TrainerConfig(strategy="gtc", gtc_density=0.05),
    "gtc_updates": TrainerConfig(strategy="gtc_updates", gtc_density=0.05),
    "bmuf": TrainerConfig(strategy="bmuf", bmuf=BmufConfig(period=3)),
}


def of(name, **more):
    """The settings of a strategy with two workers."""
    its = STRATEGIES[name]
    own = {"strategy": its.strategy, "gtc_density": its.gtc_density, "bmuf": its.bmuf}
    return replace(SETTINGS, **{"workers": 2, "accumulate": 1 if name == "bmuf" else 2, **own, **more})


def fitted(folder, config, **more):
    return parameters(trainer_of(folder, config, transform=SpecAugment(stack=1, band_width=2), **more).fit())


def distance(one, two):
    return max(float((one[name] - two[name]).abs().max()) for name in one)


# --- what must be equal


@pytest.mark.parametrize("period, nesterov", [(1, True), (4, True), (4, False), (1000, True)])
def test_bmuf_of_one_worker_is_plain_training(tmp_path, period, nesterov):
    bmuf = BmufConfig(period=period, nesterov=nesterov)
    assert same(fitted(tmp_path / "b", replace(PLAIN, strategy="bmuf", bmuf=bmuf)), fitted(tmp_path / "p", PLAIN))
    rows = [without_times(tmp_path / name) for name in "bp"]
    # Rows in the middle of an epoch count whole blocks.
    assert [[row for row in some if row["split"] != "update"] for some in rows][0] == [
        row for row in rows[1] if row["split"] != "update"
    ]


def test_ddp_and_compression_that_leaves_nothing_out_are_sums(tmp_path):
    """All but the rounding of other orders of the same additions."""
    config = replace(SETTINGS, workers=2, epochs=1, average=0)
    wanted = fitted(tmp_path / "sum", config)
    for name, more in (("ddp", {}), ("gtc", {"gtc_density": 0.0})):
        found = fitted(tmp_path / name, replace(config, strategy=name, **more))
        assert 0 <= distance(found, wanted) < 2e-5, name


@pytest.mark.parametrize(
    "settings",
    [{"strategy": "bmuf", "bmuf": BmufConfig(1, momentum=0.0)}, {"strategy": "gtc_updates", "accumulate": 2}],
    ids=["bmuf", "gtc_updates"],
)
def test_steps_of_workers_that_meet_after_every_update_of_sgd_are_the_mean_gradient(tmp_path, settings):
    """Plain SGD, one update a block without momentum, or all changes exchanged: the mean of two models is that of the
    mean step."""
    sgd = {"optimizer": "sgd", "momentum": 0.0, "clip": 0.0, "schedule": ScheduleConfig("constant"), "lr": 0.1}
    config = replace(PLAIN, epochs=1, average=0, **sgd)
    blocks = parameters(trainer_of(tmp_path / "b", replace(config, workers=2, **settings)).fit())
    # Its oracle: a model, two batches at a time, the mean of their gradients, of each its own mean over frames.
    other = trainer_of(tmp_path / "o", config)
    model, epoch = other.model, other.train.epoch(0)
    other.device, other.parameters = torch.device("cpu"), list(model.parameters())
    model.train()
    for start in range(0, len(epoch), 2):
        steps = []
        for index in range(start, min(start + 2, len(epoch))):
            model.zero_grad()
            record = other.record(PendingBatch(index, list, partial(epoch.__getitem__, index)))
            steps.append([p.grad / record.frames for p in model.parameters()])
        with torch.no_grad():
            for p, *each in zip(model.parameters(), *steps):
                p -= 0.1 * sum(each) / 2  # a worker without a batch stays where it is
    assert distance(blocks, parameters(model)) < 1e-5


def test_steps_of_adam_are_weighed_by_one_over_the_root_of_the_workers(tmp_path):
    """The first step of Adam is lr sign(gradient): two workers' add up to 0 or sqrt(2) lr in each parameter."""
    found = []
    config = of("gtc_updates", gtc_density=0.0, epochs=1, average=0, schedule=ScheduleConfig("constant"), clip=0.0)
    trainer = trainer_of(tmp_path, config, on_update=lambda its: found.append(parameters(its.model)))
    trainer.train = Batches(utterances_of(2, 1), 1)  # of one utterance each
    start = parameters(trainer.model)
    trainer.fit()
    moved = torch.cat([(found[0][name] - start[name]).abs().flatten() for name in start]) / config.lr
    assert len(found) == 1
    apart, together = moved < 0.1, (moved - 2**0.5).abs() < 0.1
    assert (apart | together).float().mean() > 0.95 and apart.float().mean() > 0.05 and together.float().mean() > 0.3


@pytest.mark.parametrize("kind, decay", [("adam", 0.0), ("adamw", 0.3)])
def test_a_worker_of_adam_takes_its_gradients_where_it_would_be_alone_until_changes_are_sent(tmp_path, kind, decay):
    plain = {"optimizer": kind, "lr": 1e-2, "weight_decay": decay, "clip": 0.0}
    plain.update(schedule=ScheduleConfig("constant"), epochs=1, average=0)
    config = of("gtc_updates", gtc_density=0.0, gtc_threshold=1e9, **plain)
    found = []

    def look(trainer):
        found.append(trainer.strategy.theta + 2**0.5 * trainer.strategy.gtc.unsent(trainer.parameters))

    trainer_of(tmp_path / "two", config, on_update=look).fit()
    # Its oracle: a training of its own, by the first of every two batches.
    alone = trainer_of(tmp_path / "alone", replace(config, strategy="sum", workers=1))
    epoch = alone.train.epoch(0)
    alone.device, alone.parameters = torch.device("cpu"), list(alone.model.parameters())
    optimizer = replace(config, weight_decay=2**-0.5 * decay).build_optimizer(alone.parameters)
    alone.model.train()
    for update in range(3):
        optimizer.zero_grad()
        record = alone.record(PendingBatch(2 * update, list, partial(epoch.__getitem__, 2 * update)))
        for p in alone.parameters:
            p.grad /= record.frames
        optimizer.step()
        wanted = torch.cat([p.detach().flatten() for p in alone.parameters])
        assert float((found[update] - wanted).abs().max()) < 1e-5, update


def test_updates_too_small_to_be_sent_stay_with_their_worker_until_the_epoch_ends(tmp_path):
    none = {"gtc_density": 0.0, "gtc_threshold": 1e9, "average": 0, "schedule": ScheduleConfig("constant")}
    models, left = [], []

    def look(trainer):
        models.append(parameters(trainer.model))
        left.append(float(trainer.strategy.gtc.unsent(trainer.parameters).abs().max()))

    trainer = trainer_of(tmp_path, of("gtc_updates", **none), on_update=look)
    start = parameters(trainer.model)
    trainer.fit()
    updates = len(models) // 3
    assert all(same(model, start) for model in models[: updates - 1]) and min(left[: updates - 1]) > 0
    assert not same(models[updates - 1], start) and left[updates - 1] < 0.01 * left[updates - 2]
    train = [row["loss"] for row in read_jsonl(tmp_path / "log.jsonl") if row["split"] == "train"]
    assert train[0] > train[1] > train[2]


class Halving(LstmModel):
    """Halves its first parameter after each update."""

    def after_update(self, update):
        with torch.no_grad():
            next(self.parameters()).mul_(0.5)


def test_what_a_model_does_to_itself_is_done_once_to_what_all_share(tmp_path):
    models = []
    config = of("gtc_updates", gtc_density=0.0, gtc_threshold=1e9, average=0, epochs=1)
    model = Halving(LstmConfig(DIM, PDFS, hidden=12, layers=1), seed=1)
    start = parameters(model)
    trainer_of(tmp_path, config, model=model, on_update=lambda its: models.append(parameters(its.model))).fit()
    first = next(iter(dict(model.named_parameters())))
    for updates, shared in enumerate(models[:-1], 1):  # the last has heard the workers' changes too
        assert torch.equal(shared.pop(first), start[first] * 0.5**updates)
        assert all(torch.equal(value, start[name]) for name, value in shared.items())
    assert len(models) > 2


# --- it learns, all workers hold one model, nothing depends on timing


@pytest.mark.parametrize("name", STRATEGIES)
def test_learns_and_is_the_same_again(tmp_path, name):
    folder = tmp_path / "one"
    found = fitted(folder, of(name))
    assert same(found, fitted(tmp_path / "two", of(name)))
    dev = [row["loss"] for row in read_jsonl(folder / "log.jsonl") if row["split"] == "dev"]
    assert dev[-1] < dev[0]
    frames = [row["frames"] for row in read_jsonl(folder / "log.jsonl") if row["split"] == "train"]
    trainer = trainer_of(tmp_path / "three", of(name))
    assert frames == [trainer.train.num_frames] * 3  # every frame of every epoch, though batches do not divide
    left = {path.name for path in folder.iterdir()}
    own = {path for path in left if path.startswith("checkpoint-")}
    assert {path.rsplit("-", 1)[1] for path in own} == (set() if name == "ddp" else {"0.safetensors", "1.safetensors"})


@pytest.mark.parametrize(
    "name, least, most", [("ddp", 100, 100), ("gtc", 1.25, 2), ("gtc_updates", 6, 7.5), ("bmuf", 30, 60)]
)
def test_says_how_much_is_sent(tmp_path, name, least, most):
    """GTC: a byte for a twentieth of the values, of updates all at the end of an epoch, too; BMUF: once in three
    updates, and at the end of an epoch. An epoch has five updates."""
    said = []
    trainer_of(tmp_path, replace(of(name), epochs=1), log=said.append).fit()
    (share,) = [float(part) for line in said for part in re.findall(r"([\d.]+) % of the gradients", line)]
    assert least <= share <= most


# --- stopped and gone on


@pytest.mark.parametrize("name", STRATEGIES)
def test_goes_on_exactly_after_sigkill(tmp_path, name):
    wanted = fitted(tmp_path / "whole", of(name))
    folder = tmp_path / "killed"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(folder), name, "5"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    said = []
    assert same(fitted(folder, of(name), log=said.append), wanted)
    assert "going on from" in said[0]
    assert without_times(folder) == without_times(tmp_path / "whole")


def test_what_a_worker_kept_for_itself_is_missed(tmp_path):
    trainer = trainer_of(tmp_path, of("bmuf"), on_update=stop_at(7))
    with pytest.raises(Killed):
        trainer.fit()
    (path,) = tmp_path.glob("checkpoint-*-1.safetensors")
    path.unlink()
    with pytest.raises(ModelError, match="no such file") as error:
        trainer_of(tmp_path, of("bmuf")).fit()
    assert error.value.file == str(path)


def test_another_number_of_workers_is_refused(tmp_path):
    trainer = trainer_of(tmp_path, of("bmuf"), on_update=stop_at(7))
    with pytest.raises(Killed):
        trainer.fit()
    with pytest.raises(ConfigError, match="other settings"):
        trainer_of(tmp_path, replace(of("bmuf"), workers=1)).fit()


# --- faults


class Poisoned:
    """Cross-entropy that is not finite for some utterances."""

    def __init__(self, names):
        from hybrid.train.ce import CrossEntropy

        self.names, self.plain = set(names), CrossEntropy()

    def __call__(self, output, batch):
        loss = self.plain(output, batch)
        if self.names & set(batch.ids):
            loss.value = loss.value * float("nan")
        return loss


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_worker_with_a_loss_that_is_not_finite_leaves_it_out_and_all_go_on(tmp_path, name):
    train = trainer_of(tmp_path / "x").train.utterances
    model = fitted(tmp_path / "y", of(name), criterion=Poisoned([train[3].id]))
    assert all(bool(torch.isfinite(value).all()) for value in model.values())
    rows = read_jsonl(tmp_path / "y" / "log.jsonl")
    named = [row["utterances"] for row in rows if row["split"] == "skipped"]
    assert len(named) == 3 and all(train[3].id in names for names in named)
    heard = [row["frames"] for row in rows if row["split"] == "train"]
    assert len(heard) == 3 and max(heard) < sum(u.num_frames for u in train)


class Breaking(LstmModel):
    """The second worker's parameters are infinite after its fourth update."""

    def after_update(self, update):
        if update == 3 and torch.distributed.get_rank() == 1:
            with torch.no_grad():
                next(self.parameters()).fill_(float("inf"))


class Drifting(LstmModel):
    """The second worker's machine rounds an update differently."""

    def after_update(self, update):
        if update == 3 and torch.distributed.get_rank() == 1:
            with torch.no_grad():
                next(self.parameters())[0, 0] += 1e-6


@pytest.mark.parametrize("name", [*STRATEGIES, "sum"])
def test_models_that_are_no_longer_the_same_end_the_training(tmp_path, name):
    config = of("ddp", strategy="sum") if name == "sum" else of(name)
    model = Drifting(LstmConfig(DIM, PDFS, hidden=12, layers=1), seed=1)
    if name == "bmuf":  # which puts models together, and so the difference out of the world
        fitted(tmp_path, config, model=model)
        return
    with pytest.raises(HybridError, match=r"after epoch 1 the models of workers 1 \(of 2\) are not that of worker 0"):
        fitted(tmp_path, config, model=model)


def test_a_block_in_which_one_model_is_lost_is_left_out(tmp_path):
    said = []
    broken = Breaking(LstmConfig(DIM, PDFS, hidden=12, layers=1), seed=1)
    model = fitted(tmp_path, of("bmuf"), model=broken, log=said.append)
    assert all(bool(torch.isfinite(value).all()) for value in model.values())
    assert ["a block of" in line for line in said if "left out" in line] == [True]
    (row,) = [row for row in read_jsonl(tmp_path / "log.jsonl") if row["split"] == "lost"]
    assert 0 < row["batches"] <= 6


def test_going_back_to_the_best_epoch_ends_the_momentum_of_blocks(tmp_path):
    """newbob restarts from the best epoch: what a block did is measured from there."""
    schedule = ScheduleConfig("newbob", max_decays=9)
    wild = {"lr": 30.0, "clip": 0.0, "optimizer": "sgd", "epochs": 6, "average": 0}
    trainer = trainer_of(tmp_path, of("bmuf", schedule=schedule, **wild))
    said = []
    trainer.log = said.append
    seen = []

    def look(trainer):
        filtered = trainer.strategy.filter
        if trainer.strategy.settled():
            seen.append(bool(filtered.start.equal(flat(trainer.parameters))))

    trainer.on_update = look
    trainer.fit()
    assert any("back to epoch" in line for line in said) and seen and all(seen)


def test_too_many_losses_end_the_training_with_a_reason(tmp_path):
    train = trainer_of(tmp_path / "x").train.utterances
    config = of("bmuf", max_skipped=1)
    with pytest.raises(HybridError, match="not finite"):
        fitted(tmp_path / "y", config, criterion=Poisoned([utterance.id for utterance in train]))


@pytest.mark.parametrize(
    "values, says",
    [({"strategy": "easgd"}, "strategy"), ({"gtc_threshold": -1.0, "strategy": "gtc"}, "threshold"),
     ({"bmuf_period": 0}, "bmuf_period"), ({"bmuf_perod": 3}, "unknown setting")],
)  # fmt: skip
def test_bad_settings(values, says):
    with pytest.raises(ConfigError, match=says):
        TrainerConfig.from_dict(values)


if __name__ == "__main__":
    folder, name, update = sys.argv[1:]

    def kill(trainer):
        if trainer.state.update == int(update):
            os.kill(os.getpid(), signal.SIGKILL)

    fitted(folder, of(name), on_update=kill)
