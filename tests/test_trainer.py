from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from device_tools import ADA, HOPPER, TURING, pretend_gpus

from hybrid.data.batches import IGNORE, Batches, Utterance
from hybrid.data.specaugment import SpecAugment
from hybrid.errors import ConfigError, DataError, HybridError, ModelError
from hybrid.io import read_jsonl
from hybrid.nnet.lstm import LstmConfig, LstmModel
from hybrid.nnet.model_io import load_state
from hybrid.train.ce import CrossEntropy
from hybrid.train.checkpoint import load_checkpoint, save_checkpoint
from hybrid.train.dropout import DropoutSchedule
from hybrid.train.schedule import Schedule, ScheduleConfig
from hybrid.train.trainer import Loss, Trainer, TrainerConfig, epoch_file

PDFS, DIM = 6, 8


def utterances_of(count: int, seed: int) -> list:
    """Frames that tell their pdf, held for three frames each, under a little noise."""
    means = np.random.default_rng(0).normal(size=(PDFS, DIM))
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        pdfs = np.repeat(rng.integers(0, PDFS, size=8), 3)[: rng.integers(12, 24)]
        features = means[pdfs] + 0.3 * rng.normal(size=(len(pdfs), DIM))
        made.append(Utterance(f"s{seed}-{number}", features.astype(np.float32), pdfs))
    return made


def trainer_of(folder, config=None, *, criterion=None, train=None, transform=None, model=None, **more) -> Trainer:
    train = utterances_of(24, 1) if train is None else train
    return Trainer(
        model or LstmModel(LstmConfig(DIM, PDFS, hidden=12, layers=2, bidirectional=True, dropout=0.3), seed=1),
        criterion or CrossEntropy(),
        Batches(train, 60, seed=5, transform=transform),
        Batches(utterances_of(5, 2), 60, shuffle=False),
        config or SETTINGS,
        Path(folder),
        seed=9,
        **{"log": lambda message: None, **more},
    )


SETTINGS = TrainerConfig(epochs=3, lr=5e-3, accumulate=2, average=2, checkpoint_updates=2, log_every=3)


def parameters(model) -> dict:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict, two: dict) -> bool:
    return one.keys() == two.keys() and all(one[name].equal(two[name]) for name in one)


def without_times(folder) -> list:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in read_jsonl(Path(folder) / "log.jsonl")]


class Killed(Exception):
    pass


def stop_at(*updates):
    """Raises at the given updates, each once."""
    left = set(updates)

    def on_update(trainer):
        if trainer.state.update in left:
            left.discard(trainer.state.update)
            raise Killed

    return on_update


# --- it learns


@pytest.mark.parametrize("optimizer, lr", [("adam", 1e-2), ("adamw", 1e-2), ("sgd", 0.5)])
def test_overfits_a_tiny_set(tmp_path, optimizer, lr):
    train = utterances_of(4, 1)
    config = TrainerConfig(epochs=40, optimizer=optimizer, lr=lr, schedule=ScheduleConfig("constant"))
    model = LstmModel(LstmConfig(DIM, PDFS, hidden=16, layers=1), seed=1)
    trainer = trainer_of(tmp_path, config, train=train, model=model)
    trainer.dev = Batches(train, 60, shuffle=False)
    assert trainer.fit() is model and not model.training
    assert trainer.evaluate().means()["frame_accuracy"] == 1.0


def test_one_update_is_the_mean_gradient_per_frame(tmp_path):
    """Against autograd on all utterances at once: no dropout, plain SGD, no clipping."""
    config = TrainerConfig(
        epochs=1, optimizer="sgd", momentum=0.0, lr=0.1, clip=0.0, accumulate=100, schedule=ScheduleConfig("constant")
    )
    model = LstmModel(LstmConfig(DIM, PDFS, hidden=5, layers=1), seed=1)
    oracle = LstmModel(LstmConfig(DIM, PDFS, hidden=5, layers=1), seed=1)
    trainer = trainer_of(tmp_path, config, model=model)
    total, frames = torch.zeros(()), 0
    for utterance in trainer.train.utterances:
        logits = oracle(torch.from_numpy(utterance.features)[None], torch.tensor([utterance.num_frames]))["logits"][0]
        total = total - torch.log_softmax(logits, -1)[range(len(utterance.pdfs)), utterance.pdfs].sum()
        frames += len(utterance.pdfs)
    (total / frames).backward()
    trainer.fit()
    for (name, parameter), trained in zip(oracle.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(trained, parameter - 0.1 * parameter.grad, msg=name, atol=1e-6, rtol=1e-4)
    norm = float(torch.cat([p.grad.flatten() for p in oracle.parameters()]).norm())
    assert trainer.state.grad_norm == pytest.approx(norm, rel=1e-4)


def test_best_epoch_is_restored_and_the_rest_deleted(tmp_path):
    config = replace(SETTINGS, lr=0.5, epochs=5, average=0, optimizer="sgd", schedule=ScheduleConfig("constant"))
    trainer = trainer_of(tmp_path, config)
    trainer.fit()
    losses = [row["loss"] for row in read_jsonl(tmp_path / "log.jsonl") if row["split"] == "dev"]
    assert trainer.evaluate().means()["loss"] == min(losses)
    assert [p.name for p in tmp_path.glob("epoch-*")] == [f"epoch-{losses.index(min(losses)):03d}.safetensors"]


def test_every_second_epoch_is_kept_beside_the_best(tmp_path):
    config = replace(SETTINGS, epochs=5, average=0, keep_every=2)
    seen = {}

    def remember(trainer):
        seen[trainer.state.epoch] = parameters(trainer.model)

    trainer_of(tmp_path, config, on_update=remember).fit()
    losses = [row["loss"] for row in read_jsonl(tmp_path / "log.jsonl") if row["split"] == "dev"]
    kept = {1, 3, losses.index(min(losses))}
    assert {path.name for path in tmp_path.glob("epoch-*")} == {f"epoch-{epoch:03d}.safetensors" for epoch in kept}
    model = LstmModel(LstmConfig(DIM, PDFS, hidden=12, layers=2, bidirectional=True, dropout=0.3), seed=1)
    load_state(model, epoch_file(tmp_path, 1))
    assert same(parameters(model), seen[1])


def test_average_of_epochs(tmp_path):
    """Around a minimum, noisy steps average out: the mean of the epochs is taken, and is the mean."""
    config = replace(SETTINGS, epochs=12, lr=0.03, average=4, schedule=ScheduleConfig("constant"))
    said = []
    trainer = trainer_of(tmp_path, config, log=said.append)
    model = trainer.fit()
    before = [float(part.split()[-1]) for part in said[-1].split("dev loss")[1].split(",")[:1]]
    alone = float(said[-1].rsplit(" ", 1)[1])
    assert len(list(tmp_path.glob("epoch-*"))) == 4
    assert trainer.evaluate().means()["loss"] == pytest.approx(min(before[0], alone), abs=1e-4)
    assert all(torch.isfinite(p).all() for p in model.parameters())


# --- the same numbers after a kill


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    return parameters(trainer_of(folder, transform=SpecAugment(stack=1, band_width=2)).fit()), without_times(folder)


@pytest.mark.parametrize("updates", [(1,), (5,), (6, 7, 9)])
def test_resumes_exactly_after_an_error(tmp_path, undisturbed, updates):
    on_update = stop_at(*updates)
    for attempt in range(len(updates) + 1):
        trainer = trainer_of(tmp_path, transform=SpecAugment(stack=1, band_width=2), on_update=on_update)
        torch.manual_seed(attempt)  # the state of torch's generator outside must not matter
        if attempt < len(updates):
            with pytest.raises(Killed):
                trainer.fit()
    model = trainer.fit()
    assert same(parameters(model), undisturbed[0])
    assert without_times(tmp_path) == undisturbed[1]


@pytest.mark.parametrize("workers, update", [(1, 7), (2, 7)])
def test_resumes_exactly_after_sigkill(tmp_path, undisturbed, workers, update):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(tmp_path), str(workers), str(update)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not list(tmp_path.glob("*.tmp"))
    trainer = trainer_of(tmp_path, replace(SETTINGS, workers=1), transform=SpecAugment(stack=1, band_width=2))
    said = []
    trainer.log = said.append
    assert same(parameters(trainer.fit()), undisturbed[0])
    assert "going on from" in said[0]
    assert without_times(tmp_path) == undisturbed[1]


def test_two_processes_give_the_numbers_of_one(tmp_path, undisturbed):
    trainer = trainer_of(tmp_path, replace(SETTINGS, workers=2), transform=SpecAugment(stack=1, band_width=2))
    assert same(parameters(trainer.fit()), undisturbed[0])
    assert without_times(tmp_path) == undisturbed[1]


def test_threads_and_random_state_are_left_as_they_were(tmp_path):
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    threads = torch.get_num_threads()
    trainer_of(tmp_path, replace(SETTINGS, epochs=1, threads=threads + 1)).fit()
    assert torch.rand(2).equal(wanted) and torch.get_num_threads() == threads


def test_a_finished_training_is_not_done_again(tmp_path, undisturbed):
    transform = SpecAugment(stack=1, band_width=2)
    trainer_of(tmp_path, transform=transform).fit()
    updates = []
    model = trainer_of(tmp_path, transform=transform, on_update=updates.append).fit()
    assert not updates and same(parameters(model), undisturbed[0])


@pytest.mark.parametrize(
    "change", [{"lr": 1e-4}, {"epochs": 9}, {"accumulate": 3}, {"dropout_schedule": "0,0.1"}]
)
def test_other_settings_do_not_go_on(tmp_path, change):
    with pytest.raises(Killed):
        trainer_of(tmp_path, on_update=stop_at(3)).fit()
    with pytest.raises(ConfigError, match="other settings") as caught:
        trainer_of(tmp_path, replace(SETTINGS, **change)).fit()
    assert "checkpoint.safetensors" in str(caught.value)


@pytest.mark.parametrize("spoil", [lambda b: b[:-100], lambda b: b"", lambda b: b"{}" * 50])
def test_broken_checkpoint(tmp_path, spoil):
    with pytest.raises(Killed):
        trainer_of(tmp_path, on_update=stop_at(3)).fit()
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(ModelError, match="not a checkpoint"):
        trainer_of(tmp_path).fit()


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
def test_checkpoint_holds_the_whole_optimiser(tmp_path, kind):
    def stepped(steps, model, optimizer):
        for step in range(steps):
            optimizer.zero_grad()
            (model.weight.sum() * (step + 1) + (model.weight**2).sum()).backward()
            optimizer.step()

    config = TrainerConfig(optimizer=kind, weight_decay=0.1)
    model, other = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    optimizer = config.build_optimizer(list(model.parameters()))
    stepped(3, model, optimizer)
    optimizer.param_groups[0]["lr"] = 0.03
    save_checkpoint(tmp_path / "c", model, optimizer, {"epoch": 3})
    restored = config.build_optimizer(list(other.parameters()))
    assert load_checkpoint(tmp_path / "c", other, restored) == {"epoch": 3}
    stepped(2, model, optimizer)
    stepped(2, other, restored)
    assert other.weight.equal(model.weight) and other.bias.equal(model.bias)


# --- losses that are not finite


class Spoilt:
    """Cross-entropy, but NaN (of the loss, or of the gradient alone) for batches with the given utterance."""

    def __init__(self, utterance, of="loss"):
        self.utterance, self.of = utterance, of

    def __call__(self, output, batch):
        loss = CrossEntropy()(output, batch)
        if self.utterance in batch.ids or self.utterance == "all":
            if self.of == "loss":
                return Loss(loss.value * float("nan"), loss.frames, loss.stats)
            # sqrt at 0 has the value 0 and an infinite slope.
            return Loss(loss.value + torch.sqrt(output["logits"].sum() * 0.0), loss.frames, loss.stats)
        return loss


@pytest.mark.parametrize("of", ["loss", "gradient"])
def test_a_bad_batch_is_left_out_and_named(tmp_path, of):
    said = []
    trainer = trainer_of(tmp_path, replace(SETTINGS, average=0), criterion=Spoilt("s1-7", of), log=said.append)
    model = trainer.fit()
    assert all(torch.isfinite(p).all() for p in model.parameters())
    rows = [row for row in read_jsonl(tmp_path / "log.jsonl") if row["split"] == "skipped"]
    assert len(rows) == 3 and all("s1-7" in row["utterances"] for row in rows)
    assert trainer.state.skipped >= 3
    assert any("not finite" in line for line in said)
    others = [row for row in read_jsonl(tmp_path / "log.jsonl") if row["split"] != "skipped"]
    assert others and all(row["loss"] is not None for row in others)


def test_too_many_bad_batches(tmp_path):
    with pytest.raises(HybridError, match="3 batches gave a loss or gradient that is not finite") as caught:
        trainer_of(tmp_path, replace(SETTINGS, max_skipped=2, accumulate=1), criterion=Spoilt("all")).fit()
    assert "log.jsonl" in str(caught.value) and "Remedy" in str(caught.value)


def test_divergence_is_said(tmp_path):
    with pytest.raises(HybridError, match="diverged"):
        trainer_of(tmp_path, replace(SETTINGS, max_skipped=100), criterion=Spoilt("s2-0")).fit()


def test_an_error_in_a_worker_comes_back(tmp_path):
    train = utterances_of(24, 1)
    trainer = trainer_of(tmp_path, replace(SETTINGS, workers=2), train=train)
    bare = trainer.train.epoch(0).indices[1][0]  # the second batch is the second worker's
    train[bare].pdfs = None
    with pytest.raises(DataError, match="no alignment") as caught:
        trainer.fit()
    assert caught.value.utterance == train[bare].id
    assert not torch.distributed.is_initialized()


def test_what_cannot_be_sent_to_a_worker(tmp_path):
    trainer = trainer_of(tmp_path, replace(SETTINGS, workers=2), criterion=lambda output, batch: None)
    with pytest.raises(ConfigError, match="cannot be shared out"):
        trainer.fit()


def test_progress_is_told_of_every_update(tmp_path):
    told = []

    def progress(items, total, desc):
        told.append([desc, total, 0])
        for item in items:
            yield item
            told[-1][2] += 1

    trainer_of(tmp_path, progress=progress).fit()
    assert [desc for desc, _, _ in told] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert all(total == count > 3 for _, total, count in told)


def test_batches_without_a_frame_that_counts(tmp_path):
    train = utterances_of(6, 1)
    for utterance in train[:5]:
        utterance.pdfs[:] = IGNORE
    trainer = trainer_of(tmp_path, replace(SETTINGS, accumulate=1), train=train)
    assert all(torch.isfinite(p).all() for p in trainer.fit().parameters())
    assert trainer.state.skipped == 0


# --- the learning rate


def test_newbob_by_hand():
    schedule = Schedule(ScheduleConfig("newbob", factor=0.5, threshold=0.01, max_decays=2), lr=1.0)
    #       loss   best   restart stop   rate after
    steps = [
        (2.000, True, False, False, 1.0),
        (1.500, True, False, False, 1.0),
        (1.495, True, False, False, 0.5),  # better, but not by 1 %
        (1.600, False, True, False, 0.25),
        (1.400, True, False, False, 0.25),
        (float("nan"), False, True, True, 0.125),
    ]
    for epoch, (loss, best, restart, stop, rate) in enumerate(steps):
        decision = schedule.after_epoch(epoch, loss)
        assert (decision.best, decision.restart, decision.stop) == (best, restart, stop), epoch
        assert schedule.rate(epoch, 0.0) == rate
        again = Schedule(schedule.config, lr=1.0)
        again.load(json.loads(json.dumps(schedule.state())))
        assert vars(again) == vars(schedule)
    assert (schedule.best_epoch, schedule.best_loss) == (4, 1.4)


def test_newbob_of_a_negative_loss():
    schedule = Schedule(ScheduleConfig(threshold=0.01), lr=1.0)
    for loss, rate in ((-1.0, 1.0), (-1.1, 1.0), (-1.101, 0.5)):
        schedule.after_epoch(0, loss)
        assert schedule.rate(0, 0.0) == rate


@pytest.mark.parametrize(
    "kind, wanted", [("constant", (2, 2, 2)), ("exponential", (2, 0.2, 0.02)), ("cosine", (2, 1.01, 0.02))]
)
def test_rates_over_the_training(kind, wanted):
    schedule = Schedule(ScheduleConfig(kind, final=0.01), lr=2.0)
    assert [schedule.rate(10, done) for done in (0, 0.5, 1)] == pytest.approx(wanted)


def test_warmup():
    schedule = Schedule(ScheduleConfig("constant", warmup=4), lr=2.0)
    assert [schedule.rate(update, 0.0) for update in range(6)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]


def test_restart_goes_back_to_the_best_epoch(tmp_path):
    said = []
    config = replace(SETTINGS, epochs=6, lr=3.0, clip=0.0, optimizer="sgd", average=0)
    trainer = trainer_of(tmp_path, config, log=said.append)
    seen = {}

    def on_update(trainer):
        if trainer.state.batch == config.accumulate:
            seen[trainer.state.epoch] = trainer.lr

    trainer.on_update = on_update
    trainer.fit()
    back = [number for number, line in enumerate(said) if "back to epoch" in line]
    halved = [epoch for epoch in back if epoch + 1 in seen]
    assert halved and all(seen[epoch + 1] == seen[epoch] / 2 for epoch in halved)


# --- dropout over the training


SCHEDULED = replace(SETTINGS, dropout_schedule="0,0@0.2,0.5@0.5,0.1")


def test_the_schedule_sets_the_dropout_of_each_update(tmp_path):
    seen = []

    def on_update(trainer):
        before = trainer.state.batch - SETTINGS.accumulate
        done = (trainer.state.epoch + before / len(trainer.train.epoch(trainer.state.epoch))) / SETTINGS.epochs
        seen.append((done, trainer.model.dropout))

    model = trainer_of(tmp_path, SCHEDULED, on_update=on_update).fit()
    shares, found = zip(*seen)
    np.testing.assert_allclose(found, np.interp(shares, [0, 0.2, 0.5, 1], [0, 0, 0.5, 0.1]), atol=1e-12)
    assert shares[0] == 0 and shares[-1] > 0.8 and model.config.dropout == 0.3


@pytest.mark.parametrize("workers", [1, 2])
def test_a_scheduled_training_resumes_exactly(tmp_path, undisturbed, workers):
    config = replace(SCHEDULED, workers=workers)
    transform = SpecAugment(stack=1, band_width=2)
    whole = parameters(trainer_of(tmp_path / "whole", SCHEDULED, transform=transform).fit())
    assert not same(whole, undisturbed[0])
    with pytest.raises(Killed):
        trainer_of(tmp_path / "again", SCHEDULED, transform=transform, on_update=stop_at(7)).fit()
    assert same(parameters(trainer_of(tmp_path / "again", config, transform=transform).fit()), whole)


def test_a_schedule_that_the_model_cannot_follow(tmp_path):
    class Plain(torch.nn.Linear):
        def forward(self, x, lengths):
            return {"logits": super().forward(x)}

    with pytest.raises(ConfigError, match="the model has no dropout"):
        trainer_of(tmp_path, SCHEDULED, model=Plain(DIM, PDFS)).fit()
    plain = trainer_of(tmp_path, replace(SETTINGS, average=0), model=Plain(DIM, PDFS))
    assert plain.fit() and plain.evaluate().means()["loss"] < np.log(PDFS)


@pytest.mark.parametrize(
    "text, points",
    [
        ("0.1,0.2", [(0, 0.1), (1, 0.2)]),
        ("0,0.3,0", [(0, 0), (0.5, 0.3), (1, 0)]),
        ("0,0@0.20,0.3@0.50,0", [(0, 0), (0.2, 0), (0.5, 0.3), (1, 0)]),
        (" 0 , 0.2@0.5 , 0.4@0.5 , 0 ", [(0, 0), (0.5, 0.2), (0.5, 0.4), (1, 0)]),
    ],
)
def test_dropout_schedules(text, points):
    schedule = DropoutSchedule.parse(text)
    assert list(schedule.points) == points
    for done in np.linspace(0, 1, 41):
        # The line through the last point at or before `done` and the next one.
        (x, y), *later = [point for point in points if point[0] <= done][-1:] + [p for p in points if p[0] > done]
        wanted = y + (later[0][1] - y) * (done - x) / (later[0][0] - x) if later else y
        assert schedule.dropout(float(done)) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize(
    "text, message",
    [
        ("0.3", "a first and a last value"),
        ("0,x,0", "'x' is not a number"),
        ("0,nan", "'nan' is not a number"),
        ("0,0.1@,0", "'' is not a number"),
        ("0@0.1,0", "have no @"),
        ("0,0@1.0,0.1@0.9,0", "shares rise from 0 to 1"),
        ("0,0@1.5,0", "shares rise from 0 to 1"),
        ("0,0@-0.5,0", "shares rise from 0 to 1"),
        ("0,1.0", "from 0 to below 1"),
        ("0,-0.1", "from 0 to below 1"),
        (0.3, "dropout_schedule is 0.3"),
    ],
)
def test_bad_dropout_schedules(text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        TrainerConfig(dropout_schedule=text)
    assert "Remedy" in str(caught.value)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"lr": 0}, "lr is 0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"lr": "fast"}, "lr is 'fast'"),
        ({"optimizer": "lbfgs"}, "optimizer is 'lbfgs'"),
        ({"device": "tpu"}, "device is 'tpu'"),
        ({"workers": 2}, "2 workers share 1 batches"),
        ({"workers": 2, "accumulate": 2, "device": "cuda"}, "2 workers are processes on the CPU"),
        ({"workers": 2, "accumulate": 2, "device": "cuda:0"}, "2 workers are processes on the CPU"),
        ({"clip": -1}, "clip is -1"),
        ({"schedule": "step"}, "schedule is 'step'"),
        ({"factor": 1.0}, "factor is 1.0"),
        ({"warmup": -1}, "warmup is -1"),
        ({"final": 0}, "final is 0"),
        ({"epoch": 3}, "unknown setting of the training: epoch"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        TrainerConfig.from_dict(settings)


def test_settings_from_a_flat_table():
    config = TrainerConfig.from_dict({"epochs": 3, "schedule": "cosine", "warmup": 10, "final": 0.1})
    assert config.schedule == ScheduleConfig("cosine", warmup=10, final=0.1) and config.epochs == 3


def test_cuda_where_there_is_none(monkeypatch):
    pretend_gpus(monkeypatch)
    with pytest.raises(ConfigError, match="torch sees none"):
        TrainerConfig(device="cuda").find_device()
    assert TrainerConfig().find_device() == torch.device("cpu")


def test_the_device_of_a_training(monkeypatch):
    """One process takes the first that torch has kernels for, those of torchrun share them out; workers take none."""
    pretend_gpus(monkeypatch, HOPPER, TURING, ADA)
    assert TrainerConfig().find_device() == torch.device("cuda:1")
    assert TrainerConfig(device="cuda:2").find_device() == torch.device("cuda:2")
    assert TrainerConfig(workers=2, accumulate=2).find_device() == torch.device("cpu")
    with pytest.raises(ConfigError, match="device is cuda:0, but torch .* has no kernels for GPU 0"):
        TrainerConfig(device="cuda:0").find_device()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    for rank, device in enumerate(("cuda:1", "cuda:2", "cuda:1")):
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        assert TrainerConfig().find_device() == TrainerConfig(device="cuda").find_device() == torch.device(device)
    with pytest.raises(ConfigError, match="device is cuda:2 for several processes"):
        TrainerConfig(device="cuda:2").find_device()


if __name__ == "__main__":
    where, processes, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

    def kill(trainer):
        if trainer.state.update == last:
            os.kill(os.getpid(), signal.SIGKILL)

    trainer_of(
        where, replace(SETTINGS, workers=processes), transform=SpecAugment(stack=1, band_width=2), on_update=kill
    ).fit()
