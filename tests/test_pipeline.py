"""Recipes end to end, by the command a user types: a demo of a minute through all stages, some AN4 to its GMMs."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np
import pytest
import torch
from conftest import PROJECT
from little_an4 import little_an4
from little_runs import command, contents, demo, done, error_rates, finish
from recipe_tools import recipe_run

from benchmarks.memory import copy, one
from benchmarks.overfit import overfit
from benchmarks.runs import open_run
from hybrid.data.batches import collate
from hybrid.data.copy_sampling import CopySampler
from hybrid.io import read_json, read_jsonl, write_json
from hybrid.lexicon.lang import Lang
from hybrid.nnet.model_io import load_model
from hybrid.nnet.priors import load_priors
from hybrid.pipeline.network import speech
from hybrid.pipeline.numerators import numerator_maker, with_numerators
from hybrid.pipeline.phones import drawn, spoken
from hybrid.pipeline.senones import network_senones
from hybrid.pipeline.sets import OUTPUT_FRAME_SHIFT, read_cuts, set_list
from hybrid.plan.speech_amounts import amounts_of_run
from hybrid.train.denominator import make_denominator
from hybrid.train.lfmmi import LfMmi
from hybrid.train.phone_lm import load_phone_lm, train_phone_lm

pytestmark = pytest.mark.slow

STAGES = "prepare augment lang lm features gmm senones ce lfmmi graph decode score report".split()
SYSTEMS = "mono tri1 tri2 tri3_si tri3 ce lfmmi".split()
CONDITIONS = "clean noisy rerecorded".split()
# DESIGN.md, Contracts: spelled out here, so that a change of the contract is seen.
FIELDS = {
    "system", "condition", "set", "wer", "low", "high", "errors", "words", "ins", "del", "sub", "tuned_on", "seed",
    "seconds", "commit",
}  # fmt: skip


def upto(stage: str) -> List[str]:
    return STAGES[: STAGES.index(stage) + 1]


@pytest.fixture(scope="module")
def exp(demo_run: Path) -> Path:
    return demo_run


def test_every_stage_ran_once(exp: Path) -> None:
    marked = [read_json(path)["stage"] for path in sorted((exp / "marks").glob("*.json"))]
    assert marked == STAGES


def test_results_have_the_fields_of_the_contract_and_every_cell(exp: Path) -> None:
    rows = read_json(exp / "results.json")
    assert all(set(row) == FIELDS for row in rows)
    cells = [(row["system"], row["condition"], row["set"], row["tuned_on"]) for row in rows]
    wanted = {
        (system, condition, *which)
        for system in SYSTEMS
        for condition in CONDITIONS
        for which in (("dev", "dev"), ("test", "dev"), ("test", "test"))
    }
    assert set(cells) == wanted and len(cells) == len(wanted)
    for row in rows:
        assert row["errors"] == row["ins"] + row["del"] + row["sub"]
        assert row["wer"] == pytest.approx(100 * row["errors"] / row["words"], abs=1e-3)
        assert row["low"] <= row["wer"] <= row["high"]
        assert row["seed"] == 0 and row["seconds"] > 0


def test_the_amounts_of_speech_noted_are_those_of_the_manifests(exp: Path, tmp_path: Path) -> None:
    for name in ("prepare", "lang", "lm"):
        shutil.copytree(exp / name, tmp_path / name)
    noted = amounts_of_run(tmp_path)
    about = read_json(tmp_path / "prepare" / "about.json")
    assert {name for name, amount in about.pop("amounts").items() if amount["hours"] > 0} == {"train", "dev", "test"}
    write_json(tmp_path / "prepare" / "about.json", about)
    counted = amounts_of_run(tmp_path)
    for found, wanted in zip(noted.prepared, counted.prepared, strict=True):
        assert found.condition == wanted.condition and found.utterances == wanted.utterances
        assert (found.hours, found.opus) == pytest.approx((wanted.hours, wanted.opus))
    assert noted.train.hours == pytest.approx(about["hours"], abs=1e-4)


def test_an_independent_scorer_finds_the_same_errors(exp: Path) -> None:
    kaldialign = pytest.importorskip("kaldialign")
    rows = read_json(exp / "results.json")
    scored = heard = 0
    for row in rows:
        which = row["set"] + ("" if row["tuned_on"] == "dev" else "-tuned-on-test")
        lines = (exp / "decode" / row["system"] / row["condition"] / which / "hyp.txt").read_text().splitlines()
        hyps = {line.split()[0]: line.split()[1:] for line in lines}
        # The clean transcripts: a noisy cut is told from its twin by what is added to its id.
        cuts = read_cuts(exp / "prepare" / f"{row['set']}.jsonl.gz")
        refs = {cut.id: cut.supervisions[0].text.split() for cut in cuts}
        twins = {identifier: re.sub(r"_(noisy|rerecorded)1$", "", identifier) for identifier in hyps}
        assert sorted(twins.values()) == sorted(refs)
        total = {"ins": 0, "del": 0, "sub": 0}
        for identifier, words in hyps.items():
            found = kaldialign.edit_distance(refs[twins[identifier]], words)
            for kind in total:
                total[kind] += found[kind]
            heard += len(words)
        assert sum(total.values()) == row["errors"]
        assert {kind: row[kind] for kind in total} == total
        assert sum(map(len, refs.values())) == row["words"]
        scored += 1
    assert scored == 63 and heard > 100


def test_a_second_run_finds_all_up_to_date_and_changes_no_file(exp: Path) -> None:
    before = contents(exp)
    times = {path: path.stat().st_mtime_ns for name in STAGES for path in (exp / name).rglob("*")}
    assert done(finish(demo(exp))) == dict.fromkeys(STAGES, False)
    assert contents(exp) == before
    assert {path: path.stat().st_mtime_ns for name in STAGES for path in (exp / name).rglob("*")} == times


def test_a_setting_of_decoding_redoes_decoding_and_what_follows(exp: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(exp, tmp_path / "exp")
    printed = finish(demo(changed, "decode.gmm.scales=[0.2]", "decode.ce.scales=[1.0]", "decode.gmm.penalties=[1.0]"))
    assert done(printed) == {name: name in ("decode", "score", "report") for name in STAGES}
    assert "decode.gmm.scales [0.05, 0.1] -> [0.2]" in printed
    before, after = error_rates(exp), error_rates(changed)
    assert before.keys() == after.keys()
    for name in before:
        same = "lfmmi" in name
        assert (before[name] == after[name]) == same or not same and "/ce/" in name, name
    settings = read_json(changed / "decode" / "mono" / "clean" / "test" / "wer.json")["settings"]
    assert settings["acoustic_scale"] == 0.2 and settings["word_penalty"] == 1.0
    after_results = contents(changed)
    for name, value in contents(exp).items():
        if name.split("/")[0] in upto("graph"):
            assert after_results[name] == value


def test_the_lfmmi_objective_is_a_log_probability(exp: Path) -> None:
    rows = read_jsonl(exp / "lfmmi" / "log.jsonl")
    assert {row["split"] for row in rows} == {"train", "dev"}
    for row in rows:
        assert row["objective"] <= 0 and np.isfinite(row["loss"])
        assert row["objective"] == pytest.approx(row["num"] - row["den"], abs=1e-4)


def test_the_report_is_one_file_that_needs_no_other(exp: Path) -> None:
    folder = exp / "report"
    assert sorted(path.name for path in folder.iterdir()) == ["RESULTS.md", "index.html"]
    page = (folder / "index.html").read_text(encoding="utf-8")
    for link in re.findall(r"""(?:src|href|data|action)\s*=\s*["']?([^"'\s>]+)""", page):
        assert link.startswith(("#", "data:")), link
    assert not re.search(r"@import|<link|<iframe|<script[^>]+src|url\(\s*['\"]?(?!#|data:)", page)
    for row in read_json(exp / "results.json"):
        if row["set"] == "test" and row["tuned_on"] == "dev":
            assert f"{row['wer']:.2f}" in page or f"{row['wer']:.1f}" in page
    assert "not real speech" in page
    for system in set(SYSTEMS) - {"tri3"}:  # which adapts to its speakers
        error = read_json(exp / "decode" / system / "clean" / "dev" / "confidence.json")["ece"]
        assert f"dev, clean: ECE {100 * error:.2f} %*" in page
    assert str(exp) not in page and str(PROJECT) not in page


def test_model_folders_load_and_compute(exp: Path) -> None:
    import torch

    from hybrid.gmm.model import GmmModel
    from hybrid.hmm.senones import Senones
    from hybrid.nnet.model_io import load_model

    for system, dim in (("mono", 39), ("tri1", 39), ("tri2", 40), ("tri3", 40)):
        model = GmmModel.load(exp / "gmm" / system)
        assert model.adapted == (system == "tri3")
        loglikes = model.loglikes(model.feature_transform.apply(np.zeros((4, 13), np.float32), [4]))
        assert model.feature_transform.dim == dim and np.isfinite(loglikes).all()
        assert loglikes.shape == (4, model.senones.num_pdfs)
    for system in ("ce", "lfmmi"):
        folder = exp / system / "model"
        network, about = load_model(folder)
        senones = Senones.load(folder / "senones")
        network.eval()
        with torch.no_grad():
            logits = network(torch.zeros(1, 5, 192), torch.tensor([5]))["logits"]
        assert logits.shape == (1, 5, senones.num_pdfs) and bool(torch.isfinite(logits).all())
        assert about["system"] == system
        assert network.config.dropout == {"ce": 0.0, "lfmmi": 0.1}[system]
        features = read_json(folder / "features.json")
        assert features["logmel"]["num_bins"] == 64
        assert features["frame_subsampling_factor"] == 3 and features["cmvn"] == "speaker"
        assert not [path for path in folder.rglob("*") if path.suffix in (".pt", ".pkl", ".pickle", ".bin")]
    priors = load_priors(exp / "ce" / "model" / "senones")
    assert priors.shape == (Senones.load(exp / "senones" / "model").num_pdfs,)
    assert priors.sum() == pytest.approx(1, abs=1e-3) and (priors > 0).all()


def test_a_tdnnf_in_the_place_of_the_lstm(exp: Path, tmp_path: Path) -> None:
    """CE, LF-MMI with a head for CE, and their log-likelihoods decoded: by one setting."""
    changed = shutil.copytree(exp, tmp_path / "exp")
    small = ["hidden=48", "bottleneck=12", "small=16", "big=48", "strides=[1, 1, 3, 3]", "dropout=0.05"]
    settings = ["model.kind=tdnnf", *(f"model.tdnnf.{setting}" for setting in small)]
    schedule = ["lfmmi.trainer.dropout_schedule=0,0.1@0.5,0"]
    printed = finish(demo(changed, *settings, *schedule, 'decode.systems=["ce","lfmmi"]', stop="decode"))
    ran = done(printed)
    ran.pop("graph")  # of fewer systems: it may be made anew
    assert ran == {name: name in ("ce", "lfmmi", "decode") for name in upto("decode") if name != "graph"}

    from hybrid.io import load_tensors
    from hybrid.nnet.model_io import load_model
    from hybrid.nnet.semi_orthogonal import deviation

    for system in ("ce", "lfmmi"):
        network, _ = load_model(changed / system / "model")
        assert network.kind == "tdnnf" and network.config.hidden == 48
        assert network.config.xent_head == (system == "lfmmi")
        assert max(deviation(matrix) for matrix in network.semi_orthogonal().values()) < 0.2
        losses = [row["loss"] for row in read_jsonl(changed / system / "log.jsonl") if row["split"] == "dev"]
        assert np.isfinite(losses).all() and losses[-1] <= losses[0]
    before, after = (load_tensors(changed / system / "model" / "model.safetensors") for system in ("ce", "lfmmi"))
    assert np.abs(after["xent.weight"] - after["output.weight"]).max() > 0
    assert np.abs(after["first.affine.weight"] - before["first.affine.weight"]).max() > 0
    assert len(error_rates(changed)) == 2 * 3 * 3


def test_a_network_that_streams_gives_the_bits_that_were_decoded(exp: Path, tmp_path: Path) -> None:
    """CE and LF-MMI with a delay and the running mean, by streaming.toml; then the audio of a set, piece by piece."""
    from hybrid.data.arrays import read_arrays
    from hybrid.data.audio import load_samples
    from hybrid.decode.acoustics import load_acoustics
    from hybrid.online.loglikes import OnlineAcoustics

    changed = shutil.copytree(exp, tmp_path / "exp")
    streaming = (PROJECT / "recipes" / "models" / "streaming.toml").read_text()
    assert all(line in streaming for line in ("bidirectional = false", "delay = 5", 'cmvn = "online"'))
    settings = ["model.bidirectional=false", "model.delay=5", "model.cmvn=online", "model.online.chunk=7"]
    ran = done(finish(demo(changed, *settings, 'decode.systems=["ce","lfmmi"]', stop="decode")))
    assert not ran["features"] and ran["ce"] and ran["lfmmi"] and ran["decode"]
    assert len(error_rates(changed)) == 2 * 3 * 3
    cuts, features = read_arrays(changed / "features" / "test_clean" / "logmel", "logmel")
    for system in ("ce", "lfmmi"):
        losses = [row["loss"] for row in read_jsonl(changed / system / "log.jsonl") if row["split"] == "dev"]
        assert np.isfinite(losses).all() and losses[-1] <= losses[0]
        acoustics = load_acoustics(changed / system / "model", True)
        mean = np.mean(np.concatenate(list(features.values())), axis=0)
        assert acoustics.online_cmvn.mean is not None and np.abs(acoustics.online_cmvn.mean - mean).max() < 5
        online = OnlineAcoustics(acoustics)
        assert online.exact and online.chunk.chunk == 7
        decoded = acoustics.loglikes(features)
        for cut in cuts:
            samples, stream = load_samples(cut, acoustics.features.sampling_rate), online.create()
            rows = [stream.accept(samples[begin : begin + 1234]) for begin in range(0, len(samples), 1234)]
            assert np.array_equal(np.concatenate([*rows, stream.finish()]), decoded[cut.id])
    for name in ("mono", "tri3"):  # what other models begin a stream with
        assert len(read_json(exp / "gmm" / name / "features.json")["online_cmvn"]["mean"]) == 13
    assert len(read_json(exp / "lfmmi" / "model" / "config.json")["online_cmvn"]["mean"]) == 64


def test_a_network_from_transcripts_alone(exp: Path, tmp_path: Path) -> None:
    """Flat start: no Gaussians, no alignments, no cross-entropy."""
    changed = shutil.copytree(exp, tmp_path / "exp")
    settings = [
        "gmm.last=none", "lfmmi.init_from=flat", "lfmmi.numerators=words",
        "lfmmi.criterion.xent_targets=numerator", "lfmmi.trainer.epochs=3",
        # and its students: a teacher from transcripts alone, priors from the student's own posteriors
        "student.enabled=true", "teacher_lfmmi.trainer.epochs=1", "student_ce.trainer.epochs=1",
        "student_lfmmi.trainer.epochs=1",
    ]  # fmt: skip
    printed = finish(demo(changed, *settings, stop="decode"))
    prepared = dict.fromkeys(upto("features"), False)
    trained = ("senones", "teacher_lfmmi", "lfmmi", "targets", "student_ce", "student_lfmmi", "graph", "decode")
    assert done(printed) == {**prepared, **dict.fromkeys(trained, True)}  # no Gaussians, no cross-entropy
    assert {path.name for path in (changed / "graph").iterdir()} == {"network.fst"}
    losses = [row["loss"] for row in read_jsonl(changed / "lfmmi" / "log.jsonl") if row["split"] == "dev"]
    assert len(losses) == 3 and losses[-1] < losses[0]
    systems = ("lfmmi", "teacher_lfmmi", "student_ce", "student_lfmmi")
    assert {Path(name).parts[1] for name in error_rates(changed)} == set(systems)
    assert load_priors(changed / "student_ce" / "model" / "senones").sum() == pytest.approx(1, abs=1e-3)


def test_a_phone_lm_that_knows_what_decoding_may_say(exp: Path) -> None:
    """Sentences drawn from the decoding LM bring pairs of words, and so of phones, that the training set lacks."""
    run = recipe_run(exp)
    lang = Lang.load(exp / "lang")
    data = speech(run, ["train"])
    said = dict(spoken([(data.id(place), data.text_of(place)) for place in range(len(data))], lang, 0))
    more = drawn(run, lang, 3000, 0)
    assert more == drawn(run, lang, 3000, 0) != drawn(run, lang, 3000, 1) and not set(said) & set(more)
    assert more and all(set(phones) <= set(lang.phone_ids) for phones in more.values())
    how = {"order": 3, "no_prune_order": 2, "smoothing": "bigrams"}
    alone, both = (train_phone_lm(text, **how) for text in (said, {**said, **more}))
    senones = network_senones(run)
    assert len(make_denominator(both, senones).src) > len(make_denominator(alone, senones).src)
    every = [*said.values(), *more.values()]
    assert min(both.score(phones) for phones in every) > -np.inf == min(alone.score(phones) for phones in every)


def test_engines_and_finite_differences_agree_on_a_recipes_graphs(exp: Path) -> None:
    """Its denominator and numerators, its trained network's outputs; values and gradients to 1e-4."""
    run = open_run(exp)
    senones = network_senones(run)
    data = speech(run, set_list(run).training)
    phone_lm = load_phone_lm(exp / "lfmmi" / "phone_lm.json")
    make = numerator_maker(run, Lang.load(exp / "lang"), phone_lm, senones, "lfmmi")
    denominator = make.denominator()
    chosen = with_numerators(run, data.take(range(0, len(data), 9)), make, run.problems("lfmmi"))
    batch = collate([chosen[index] for index in range(len(chosen))])
    model, _ = load_model(exp / "lfmmi" / "model")
    x = model.eval()(batch.features, batch.lengths)["logits"].detach().double().requires_grad_(True)
    options = {"xent_regularize": 0.0, "l2_output": 1e-3}
    loss = LfMmi(denominator, senones.num_pdfs, engine="sparse", **options)({"logits": x}, batch)
    gradient = torch.autograd.grad(loss.value, x)[0]
    assert -1.0 < loss.stats["objective"] / loss.frames < 0.0 and len(batch.ids) > 3
    way = 1e-5 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    criterion = LfMmi(denominator, senones.num_pdfs, engine="sparse", **options)
    up, down = (criterion({"logits": (x + sign * way).detach()}, batch).value for sign in (1, -1))
    assert float((gradient * way).sum()) == pytest.approx(float(up - down) / 2, rel=1e-4)
    pytest.importorskip("k2")
    y = x.detach().float().requires_grad_(True)
    other = LfMmi(denominator, senones.num_pdfs, engine="k2", **options)({"logits": y}, batch)
    for name in ("num", "den", "objective"):
        assert other.stats[name] == pytest.approx(loss.stats[name], rel=1e-4), name
    theirs = torch.autograd.grad(other.value, y)[0].double()
    assert float((theirs - gradient).norm()) < 1e-4 * float(gradient.norm())


def test_one_batch_is_learnt_by_heart(exp: Path) -> None:
    objectives = overfit(open_run(exp), frames=150, updates=400)
    assert objectives[0] < -0.1 and -0.01 < objectives[-1] < 1e-3, objectives[::20]


def test_pieces_of_utterances_and_expected_accuracy(exp: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(exp, tmp_path / "exp")
    settings = ["lfmmi.chunk_frames=30", "lfmmi.criterion.smbr=0.5", "lfmmi.criterion.boost=0.1"]
    printed = finish(demo(changed, *settings, stop="lfmmi"))
    assert done(printed) == {name: name == "lfmmi" for name in upto("lfmmi")}
    rows = read_jsonl(changed / "lfmmi" / "log.jsonl")
    assert all(0 < row["accuracy"] < 1 for row in rows if row["split"] in ("train", "dev"))
    frames = {split: [row["frames"] for row in rows if row["split"] == split] for split in ("train", "dev")}
    whole = read_jsonl(exp / "lfmmi" / "log.jsonl")
    for split, counted in frames.items():  # no frame of any utterance is lost, or trained on twice
        assert counted[0] == pytest.approx([row["frames"] for row in whole if row["split"] == split][0], rel=0.1)


@pytest.mark.parametrize(
    "settings, words",
    [
        (["senones.align_with=none"], "set lfmmi.init_from=flat lfmmi.numerators=words"),
        (["lfmmi.numerators=words", "lfmmi.chunk_frames=50"], "chunks need the alignment"),
        (["lfmmi.init_from=cold"], "use flat, ce, or the folder of a model"),
        (["gmm.last=tri7"], "use one of 'mono', 'tri1', 'tri2', 'tri3', 'none'"),
        (["gmm.last=tri1", "senones.align_with=tri3"], "use one of last, mono, tri1, none"),
    ],
)
def test_settings_of_sequence_training_that_do_not_go_together(exp: Path, tmp_path: Path, settings, words) -> None:
    changed = shutil.copytree(exp, tmp_path / "exp")
    process = demo(changed, *settings, stop="lfmmi")
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 2 and words in printed and "Traceback" not in printed, printed


def test_noisy_copies_take_turns(exp: Path) -> None:
    """The pools of copies that the network's training draws from are those of the utterances."""
    run = recipe_run(exp, "model.noisy_per_epoch=1")
    data = speech(run, set_list(run).training)
    pools: Dict[Tuple[str, int], List[str]] = {}
    for place, (pool, _, noisy) in enumerate(zip(*data.copies)):
        pools.setdefault(("noisy" if noisy else "clean", int(pool)), []).append(data.id(place))
    clean = {name for (kind, _), (name, *_) in pools.items() if kind == "clean"}
    assert len(pools) == 2 * len(clean) == len(data) > 0
    assert {name for (kind, _), (name, *_) in pools.items() if kind == "noisy"} == {f"{name}_noisy1" for name in clean}
    # The same data with a second noisy copy of each: an epoch is as long as with one, and the next has the other.
    more = data.take(np.flatnonzero(data.copies.noisy))
    pool, copies = (np.concatenate([data.copies[i], more.copies[i] + i * len(data)]) for i in (0, 1))
    counts = np.r_[np.where(data.copies.noisy, 1, 0), np.ones(len(more), int)]
    heard = [set(CopySampler(pool, copies, counts)(number).tolist()) for number in range(2)]
    assert len(heard[0]) == len(heard[1]) == len(data)
    assert heard[0] & heard[1] == set(np.flatnonzero(~data.copies.noisy).tolist())
    assert heard[0] | heard[1] == set(range(len(data) + len(more)))


def test_copies_of_a_training_set_are_other_speech_and_as_good(exp: Path, tmp_path: Path) -> None:
    copy(exp, tmp_path, 2, 1)
    names = ["train", "train_noisy1"]
    once, twice = (speech(open_run(folder), names) for folder in (exp, tmp_path))
    assert len(twice) == 2 * len(once) and twice.lengths.sum() == 2 * once.lengths.sum()
    count = int((~once.copies.noisy).sum())
    for place in (0, count - 1):
        for number in range(2):
            found, wanted = twice[number * count + place], once[place]
            assert found.id == f"{wanted.id}-copy{number}" and np.array_equal(found.features, wanted.features)
            assert np.array_equal(found.pdfs, wanted.pdfs)
    assert one(tmp_path, "data")["hours"] == pytest.approx(2 * once.lengths.sum() * OUTPUT_FRAME_SHIFT / 3600)


def test_noisy_cuts_know_their_clean_twins(exp: Path) -> None:
    sets = read_json(exp / "augment" / "sets.json")
    assert sets["clean"] == ["train"] and sets["noisy"] == ["train_noisy1"]
    twins = {"train_noisy1": "train"}
    twins.update({f"{split}_{c}": f"{split}_clean" for split in ("dev", "test") for c in ("noisy", "rerecorded")})
    for name, base in twins.items():
        clean = {cut.id: cut for cut in read_cuts(exp / "augment" / f"{base}.jsonl.gz")}
        noisy = read_cuts(exp / "augment" / f"{name}.jsonl.gz")
        assert [cut.custom["clean_cut"] for cut in noisy] == list(clean)
        for cut in noisy:
            twin = clean[cut.custom["clean_cut"]]
            assert cut.duration == twin.duration and cut.num_samples == twin.num_samples
            assert cut.supervisions[0].text == twin.supervisions[0].text
            assert cut.supervisions[0].speaker == twin.supervisions[0].speaker
        heard, said = cut.load_audio()[0], twin.load_audio()[0]
        assert heard.shape == said.shape and np.abs(heard - said).max() > 0.01
    speakers = {
        split: {cut.supervisions[0].speaker for cut in read_cuts(exp / "prepare" / f"{split}.jsonl.gz")}
        for split in ("train", "dev", "test")
    }
    assert len(set().union(*speakers.values())) == sum(map(len, speakers.values())), "no voice is in two sets"


def kill_at(process: subprocess.Popen, pattern: str, delay: float) -> str:
    """Ends the whole process group by SIGKILL `delay` seconds after a line of its output matches."""
    seen: List[str] = []
    for line in process.stdout:
        seen.append(line)
        if re.search(pattern, line):
            time.sleep(delay)
            os.killpg(process.pid, signal.SIGKILL)
            break
    seen += process.communicate()[0].splitlines(keepends=True)
    assert process.returncode == -signal.SIGKILL, "".join(seen)
    return "".join(seen)


def test_kills_of_the_whole_group_change_no_error_rate(exp: Path, tmp_path: Path) -> None:
    """From the senones on, killed once in training and once in decoding."""
    draw = random.Random(5)
    again = shutil.copytree(exp, tmp_path / "exp")
    for name in STAGES[6:]:
        next((again / "marks").glob(f"*-{name}.json")).unlink()
    (again / "results.json").unlink()
    first = kill_at(demo(again), rf"^stage \d+ {draw.choice(['senones', 'ce', 'lfmmi'])}:", draw.uniform(0.2, 2.0))
    assert done(first)["senones"] and "graph" not in done(first)
    line = rf"^  (tri1|tri3|ce) {draw.choice(CONDITIONS)}: .*on test,"
    second = kill_at(demo(again, stop="score"), line, draw.uniform(0, 0.5))
    assert done(second)["decode"] and "score" not in done(second)
    last = finish(demo(again, stop="score"))
    assert "stage 10 decode: goes on where it was stopped" in last
    assert done(last) == {name: name in ("decode", "score") for name in upto("score")}
    assert len(error_rates(exp)) == 63
    assert error_rates(again) == error_rates(exp)
    timeless = [
        [{key: row[key] for key in FIELDS - {"seconds", "commit"}} for row in read_json(folder / "results.json")]
        for folder in (exp, again)
    ]
    assert timeless[0] == timeless[1]


# ------------------------------------------------------------------ real speech


@pytest.fixture
def some_an4(shared_data: Path, tmp_path: Path) -> Path:
    return little_an4(shared_data, tmp_path / "data", speakers=3)


def test_a_little_of_an4_to_its_gmms(some_an4: Path, tmp_path: Path) -> None:
    exp = tmp_path / "exp"
    settings = [
        "run.jobs=1", "corpus.dev_speakers=1", "augment.speeds=[1.1]", "augment.noisy_copies=0", "gmm.mono.passes=8",
        "gmm.mono.gaussians=150",
        *(f"gmm.{system}.{setting}" for system in ("tri1", "tri2", "tri3")
          for setting in ("passes=5", "leaves=150", "gaussians=250")),
    ]  # fmt: skip
    run = ["-m", "hybrid.recipes.an4", "--data", str(some_an4), "--stop-stage", "gmm", "--set", *settings]
    printed = finish(command(run, exp))
    assert done(printed) == dict.fromkeys(STAGES[:6], True)
    cuts = {name: read_cuts(exp / "prepare" / f"{name}.jsonl.gz") for name in ("train", "dev", "test")}
    speakers = {name: {cut.supervisions[0].speaker for cut in these} for name, these in cuts.items()}
    assert [len(speakers[name]) for name in ("train", "dev", "test")] == [2, 1, 1]
    assert not speakers["train"] & speakers["dev"]
    assert sum(map(len, cuts.values())) >= 40
    assert f"{len(cuts['train']) + len(cuts['dev'])} utterances where CMU's archive has 948" in printed
    for row in read_cuts(exp / "augment" / "train_sp1.1.jsonl.gz"):
        assert row.duration == pytest.approx(row.num_samples / 16000) and row.id.endswith("_sp1.1")
    fast = sum(cut.duration for cut in read_cuts(exp / "augment" / "train_sp1.1.jsonl.gz"))
    assert fast == pytest.approx(sum(cut.duration for cut in cuts["train"]) / 1.1, rel=1e-3)
    for system in ("mono", "tri1", "tri2", "tri3"):
        passes = read_jsonl(exp / "gmm" / system / "passes.jsonl")
        assert len(passes) == (8 if system == "mono" else 5)
        likelihoods = [row["loglike_per_frame"] for row in passes]
        assert likelihoods[-1] > likelihoods[0] + 0.5, likelihoods
    assert (exp / "gmm" / "problems.jsonl").read_text() == ""
    assert [json.loads(p.read_text())["state"] for p in sorted((exp / "marks").iterdir())] == ["done"] * 6
