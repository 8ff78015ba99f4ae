from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from hybrid.cli import main
from hybrid.errors import ConfigError
from hybrid.io import write_json
from hybrid.nnet.lstm import LstmConfig, LstmModel
from hybrid.plan.assumptions import ASSUMPTIONS, Values
from hybrid.plan.cost import plan
from hybrid.plan.models import PAPER, count, find_model
from hybrid.plan.rates import parse_rates
from hybrid.plan.table import amount, as_text


@pytest.fixture
def quick(monkeypatch):
    """Networks without the decompositions of their initial weights, which take seconds at these sizes."""
    monkeypatch.setattr(torch.nn.init, "orthogonal_", lambda tensor, gain=1.0: tensor)
    monkeypatch.setattr(torch.nn.init, "xavier_uniform_", lambda tensor, gain=1.0: tensor)


@pytest.mark.parametrize(
    "config",
    [
        LstmConfig(192, 3000, hidden=768, layers=5),
        LstmConfig(192, 3000, hidden=832, layers=5, bidirectional=True),
        LstmConfig(12, 7, hidden=5, layers=1),
        LstmConfig(12, 7, hidden=5, layers=3, bidirectional=True, layer_norm=True, xent_head=True),
        LstmConfig(12, 7, hidden=5, layers=2, proj=3, delay=2),
        LstmConfig(12, 7, hidden=5, layers=2, proj=3, bidirectional=True, input_layer_dim=11, input_layer_context=2),
    ],
    ids=str,
)
def test_parameters_are_those_of_the_network(config, quick) -> None:
    network, counted = LstmModel(config), count(config)
    assert counted.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert counted.weights == sum(parameter.numel() for parameter in network.parameters() if parameter.dim() == 2)
    assert counted.training_flops == 3 * counted.forward_flops == 6 * counted.weights
    for number in range(1, config.layers + 1):
        layers = [group[number - 1] for group in (network.forward_layers, network.backward_layers) if len(group)]
        layers += [network.norms[number - 1]] if config.layer_norm else []
        assert counted.parts[f"layer {number}"] == sum(p.numel() for layer in layers for p in layer.parameters())


def test_the_papers_sizes() -> None:
    """What models.py's docstring says."""
    sizes = {text: find_model(text, 192, 3000).parameters for text in ("5x768", "5x768b", "6x768b", "5x832b")}
    assert sizes == {"5x768": 24161208, "5x768b": 67193784, "6x768b": 81361848, "5x832b": 78330808}
    assert abs(sizes["5x768"] / PAPER["student"] - 1) < 0.01
    assert abs(sizes["5x832b"] / PAPER["teacher"] - 1) < 0.01
    apart = 2 * (sizes["5x768"] - 769 * 3000) + 1537 * 3000  # two stacks, joined before the output alone
    assert apart == 48319416
    assert 77.5e6 < find_model("5x830b", 192, 3000).parameters < 78.5e6
    assert 77.9e6 < find_model("5x768b", 192, 10030).parameters < 78.1e6


def test_a_small_plan_by_hand() -> None:
    """3 h labelled and 6 h not on 4 GPUs that compute 1 GFLOP/s each; nothing varies, the network is fast."""
    values = Values(
        {
            "labelled": 3, "unlabelled": 6, "gpus": 4, "gpu-tflops": 0.002, "utilisation": 0.5, "senones": 100, "k": 10,
            "input-dim": 10, "teacher-epochs": 2, "teacher-sequence-epochs": 1, "passes": 2, "labelled-passes": 4,
            "sequence-epochs": 5, "denominator-rate": 1000, "spread": 0, "batch": 100, "overlap": 0, "bandwidth": 1e6,
            "latency": 0.001, "target-bytes": 20, "audio-bytes": 1000, "replication": 2, "decode": 0, "scan": 0,
            "density": 0.01, "period": 10,
        }
    )  # fmt: skip
    model = count(LstmConfig(10, 100, hidden=20, layers=1))
    weights = 4 * 20 * 30 + 2000
    assert (model.weights, model.parameters) == (weights, weights + 160 + 100)
    found = plan(values, model, model)
    hour = 3600 / 0.03  # frames
    forward, training = 1e9 / (2 * weights), 1e9 / (6 * weights)
    sequence = 1 / (1 / training + 1 / 1000)
    expected = {
        "teacher": (2 * 3 * hour, training),
        "teacher, sequence": (3 * hour, sequence),
        "labelling": (9 * hour, forward),
        "student": ((2 * 6 + 4 * 3) * hour, training),
        "student, sequence": (5 * 3 * hour, sequence),
    }
    assert [phase.name for phase in found.phases] == list(expected)
    for name, (frames, rate) in expected.items():
        phase = found.phase(name)
        assert phase.frames == pytest.approx(frames) and phase.rate == pytest.approx(rate)
        assert phase.unit_hours == pytest.approx(frames / rate / 3600)
        assert phase.days == pytest.approx(frames / rate / 3600 / 4 / 24)
    assert found.phase("labelling").by_method == ()
    student = found.phase("student")
    steps = student.frames / 400
    assert student.steps == pytest.approx(steps)
    dense, sparse = 1.5 * 4 * model.parameters, 3 * 0.01 * 2 * model.parameters
    transfers = {"DDP": dense / 1e6 + 0.006, "GTC": sparse / 1e6 + 0.003, "BMUF": (dense / 1e6 + 0.006) / 10}
    sent = {"DDP": dense, "GTC": sparse, "BMUF": dense / 10}
    for one in student.by_method:
        assert one.compute == pytest.approx(100 / training) and one.wait == pytest.approx(0, abs=1e-12)
        assert one.transfer == pytest.approx(transfers[one.method])
        assert one.sent_step == pytest.approx(sent[one.method])
        assert one.sent_all == pytest.approx(4 * one.sent) == pytest.approx(4 * steps * sent[one.method])
        step = 100 / training + transfers[one.method]
        assert one.days == pytest.approx(steps * step / 86400)
    assert found.disk["audio"] == pytest.approx((9 * 3600 * 1000, 2 * 9 * 3600 * 1000))
    assert found.disk["targets"] == pytest.approx((9 * hour * 20, 2 * 9 * hour * 20))
    assert found.disk["shards"] == pytest.approx((9 * hour * (2 * 10 + 20), 2 * 9 * hour * (2 * 10 + 20)))
    assert found.disk["total"][1] == pytest.approx(2 * (9 * 3600 * 1000 + 9 * hour * 60))
    assert found.feeding["bytes_per_second"] == pytest.approx(training * (2 * 10 + 20))
    assert found.feeding["write_core_hours"] == pytest.approx(9 * hour / 46000 / 3600)
    assert found.feeding["cores_labelling"] == pytest.approx(forward / 46000 + forward * 0.03 / 1100)
    assert found.feeding["pack_core_hours"] == pytest.approx(9 / 1100)
    assert found.feeding["cores_training"] == pytest.approx(training / 535000)


def test_noisy_copies_are_packed_beside_the_speech() -> None:
    model = count(LstmConfig(192, 3000))
    one, three = (plan(Values({"labelled": 1, "unlabelled": 0, "copies": n}), model, model) for n in (1, 3))
    assert three.disk["shards"][0] == pytest.approx(3 * one.disk["shards"][0])
    assert three.disk["targets"] == one.disk["targets"] and three.disk["audio"] == one.disk["audio"]
    assert three.feeding["pack_core_hours"] == pytest.approx(3 * one.feeding["pack_core_hours"])


def test_a_million_hours_of_targets_as_the_benchmark_projects_them() -> None:
    model = find_model("5x768", 192, 3000)
    found = plan(Values({"labelled": 0}), model, model)
    assert found.disk["targets"][0] == pytest.approx(5.58e12, rel=0.01)
    assert found.feeding["write_core_hours"] == pytest.approx(720, rel=0.02)
    assert found.phase("teacher").days == 0 and found.phase("student").hours == 1e6


def test_cores_are_workers_in_groups() -> None:
    model = find_model("2x32", 192, 3000)
    found = plan(Values({"gpus": 0, "cores": 40, "unlabelled": 10, "labelled": 10, "spread": 0}), model, model)
    assert (found.unit, found.units, found.workers) == ("core", 40, 3)
    student = found.phase("student")
    assert student.steps == pytest.approx(student.frames / (3 * 8192))
    assert student.by_method[0].compute == pytest.approx(8192 / (16 * student.rate))
    assert plan(Values({"gpus": 0, "cores": 4}), model, model).workers == 1


def test_too_few_cores_beside_the_gpus_are_named() -> None:
    model = find_model("5x768", 192, 3000)
    found = plan(Values({"gpus": 8, "cores": 3}), model, model)
    assert "3 cores do not keep 8 GPUs busy: 4 are needed" in found.notes[0] and found.notes[0] in as_text(found)
    assert not plan(Values({"gpus": 8, "cores": 4}), model, model).notes


RATES = {
    "format": 1, "device": "cpu", "machine": "x",
    "teacher": {"model": "2x32", "parameters": 136088, "frames_per_second": 900.0},
    "student": {"model": "2x32", "parameters": 136088, "frames_per_second": 100.0, "batch": 10,
                "seconds": [[0.1, 0.3] * 10]},
    "targets": {"k": 20, "senones": 3000, "bytes_per_frame": 40.0, "write": 500.0, "read": 5000.0},
    "gtc": {"scan": 3e-9, "decode": 2e-8},
    "network": {"bandwidth": 1e8, "latency": 0.001},
}  # fmt: skip


def test_measured_rates_take_the_place_of_defaults_but_not_of_what_is_given() -> None:
    model = find_model("2x32", 192, 3000)
    about = {**RATES, "teacher": {**RATES["teacher"], "parameters": model.parameters}}
    about["student"] = {**RATES["student"], "parameters": model.parameters}
    rates = parse_rates(about, "rates.json")
    values = Values({"gpus": 0, "cores": 1, "bandwidth": 2e8})
    found = plan(values, model, model, rates)
    assert found.phase("labelling").rate == 900 and found.phase("student").rate == 100
    assert found.phase("teacher").rate == 300
    wanted = {"bandwidth": (2e8, "given"), "latency": (0.001, "measured"), "scan": (3e-9, "measured")}
    rows = {name: (value, why) for _, name, value, _, why in found.values.rows()}
    assert {name: rows[name] for name in wanted} == wanted and rows["target-bytes"] == (40.0, "measured")
    assert values["spread"] == pytest.approx(0.5)  # of 0.1 and 0.3 s
    few = parse_rates({**about, "student": {**about["student"], "seconds": [[0.1, 0.3]]}}, "rates.json")
    assert plan(Values({"gpus": 0, "cores": 1}), model, model, few).values["spread"] == 0.1
    # targets of another k than the plan's tell nothing of it
    other = plan(Values({"gpus": 0, "cores": 1, "k": 10}), model, model, rates)
    assert other.values["target-bytes"] < 30 and other.values["write-rate"] == 46000
    with pytest.raises(ConfigError, match="measured on cpu in a plan for GPUs"):
        plan(Values({}), model, model, rates)
    with pytest.raises(ConfigError, match="the rates are of a teacher"):
        plan(Values({"gpus": 0, "cores": 1}), find_model("3x32", 192, 3000), model, rates)


def test_the_command_and_its_json(tmp_path, capsys) -> None:
    path = tmp_path / "plan.json"
    assert main(["plan", "--labelled", "7000", "--unlabelled", "1000000", "--gpus", "64", "--json", str(path)]) == 0
    shown, written = capsys.readouterr().out, json.loads(path.read_text())
    assert "24,161,208; paper: 24 M (+0.7 %)" in shown and "78,330,808; paper: 78 M (+0.4 %)" in shown
    for name in ASSUMPTIONS:
        assert f"    {name} " in shown
    assert {row["name"] for row in written["assumptions"]} == set(ASSUMPTIONS)
    assert all(row["source"] for row in written["assumptions"])
    assert written["workers"] == 64 and [phase["name"] for phase in written["phases"]][2] == "labelling"
    assert main(["plan", "--labelled", "7000", "--unlabelled", "1000000", "--gpus", "64"]) == 0
    assert capsys.readouterr().out == shown


def test_a_model_is_read_from_its_folder(tmp_path, capsys) -> None:
    config = LstmConfig(192, 50, hidden=16, layers=2)
    write_json(tmp_path / "config.json", {"format": 1, "kind": "lstm", "model": config.to_dict()})
    words = ["plan", "--student", str(tmp_path), "--teacher", str(tmp_path / "config.json"), "--senones", "50"]
    assert main(words) == 0
    assert f"{count(config).parameters:,}" in capsys.readouterr().out
    assert main(words[:-2]) == 2 and "--senones 50" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--labelled", "-1"], "--labelled is -1"),
        (["--unlabelled", "nan"], "--unlabelled is nan"),
        (["--unlabelled", "inf"], "--unlabelled is inf"),
        (["--labelled", "0", "--unlabelled", "0"], "no hours of speech"),
        (["--gpus", "0"], "neither a GPU nor a core"),
        (["--gpus", "2.5"], "--gpus is 2.5"),
        (["--gpus", "-1"], "--gpus is -1"),
        (["--teacher", "big"], "unknown model 'big'"),
        (["--student", "0x768"], "layers is 0"),
        (["--senones", "1"], "--senones is 1"),
        (["--k", "0"], "--k is 0"),
        (["--k", "4000"], "4000"),
        (["--utilisation", "1.5"], "at most 1"),
        (["--utilisation", "0"], "above 0"),
        (["--overlap", "2"], "--overlap is 2"),
        (["--period", "0"], "--period is 0"),
        (["--bandwidth", "0"], "--bandwidth is 0"),
        (["--frame-shift", "-0.03"], "--frame-shift"),
        (["--replication", "0.5"], "--replication"),
        (["--seed", "-1"], "--seed is -1"),
    ],
)
def test_bad_options(words, message, capsys) -> None:
    assert main(["plan", *words]) == 2
    shown = capsys.readouterr()
    assert message in shown.err and "Remedy" in shown.err and shown.out == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("{", "not JSON"),
        ("{}", "format"),
    ],
)
def test_bad_rates(content, message, tmp_path, capsys) -> None:
    if content is not None:
        (tmp_path / "r.json").write_text(content)
    assert main(["plan", "--rates", str(tmp_path / "r.json")]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "not the configuration"),
        ("{", "not JSON"),
        ('{"kind": "tdnnf", "model": {}}', "tdnnf"),
        ('{"kind": "lstm", "model": {"input_dim": 3}}', "num_pdfs"),
    ],
)
def test_bad_models(content, message, tmp_path, capsys) -> None:
    (tmp_path / "config.json").write_text(content)
    assert main(["plan", "--teacher", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_no_gpu_to_measure_on(tmp_path, capsys) -> None:
    assert main(["plan", "--measure", str(tmp_path / "r.json")]) == 2
    assert "--gpus 0 --cores N" in capsys.readouterr().err


def test_what_is_measured_can_be_planned_with(tmp_path, capsys, monkeypatch) -> None:
    quick = {"batch": 8192, "k": 20, "seconds": 0.01, "precision": "tf32"}
    monkeypatch.setattr("hybrid.plan.measure.measure.__kwdefaults__", quick)
    words = ["--gpus", "0", "--cores", "8", "--teacher", "1x16b", "--student", "1x8", "--senones", "40"]
    assert main(["plan", *words, "--measure", str(tmp_path / "r.json")]) == 0
    measured = capsys.readouterr().out
    names = {line.split()[0] for line in measured.splitlines() if line.endswith(" measured")}
    rates = {"teacher-rate", "student-rate", "target-bytes", "write-rate", "read-rate", "scan", "decode"}
    assert names - {"spread"} == rates
    about = json.loads((tmp_path / "r.json").read_text())
    assert about["device"] == "cpu" and len(about["student"]["seconds"][0]) >= 3
    assert main(["plan", *words, "--rates", str(tmp_path / "r.json")]) == 0
    assert capsys.readouterr().out == measured


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, hybrid.plan.options; print([n for n in ('torch', 'numpy', 'scipy') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (5.58e12, "5.58 TB"), (999.7e9, "1.00 TB"), (12, "12.0 B"), (1234, "1.23 kB"), (2e20, "200 EB")],
)
def test_amounts(value, text) -> None:
    assert amount(value) == text
