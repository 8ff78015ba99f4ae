"""An exported folder recognises as the run did that it comes from, alone, and is not trusted."""

# ruff: noqa: F811  (fixtures of test_recogniser.py, which tests take by their names)
from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Dict

import numpy as np
import pytest
import soundfile
from conftest import PROJECT
from lhotse import CutSet
from small_run import RATE, SEARCH
from test_onnx import network

import hybrid
from hybrid import cli
from hybrid.align.aligner import find_model
from hybrid.decode import export as export_module
from hybrid.decode import exported
from hybrid.decode import load as load_module
from hybrid.decode.acoustics import NetworkAcoustics
from hybrid.decode.export import export
from hybrid.decode.exported import describe, open_export
from hybrid.decode.load import load
from hybrid.decode.onnx_acoustics import OnnxAcoustics
from hybrid.decode.recogniser import Recogniser
from hybrid.errors import ConfigError, DataError, GraphError, HybridError, MissingDependency, ModelError
from hybrid.io import read_json, write_json
from hybrid.lexicon.deferred import DeferredLang
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.lexicon import Lexicon
from hybrid.nnet.model_io import state_arrays
from hybrid.nnet.onnx_export import onnx_bytes
from hybrid.nnet.priors import save_priors
from hybrid.train.teacher import about_of

CALIBRATED = {"bias": 0.5, "weights": {"posterior": 0.5, "deficit": -0.5, "frames": 0.25}, "words": 9, "wrong": 1}


def results(asr: Recogniser, small_cuts: CutSet) -> Dict[str, Any]:
    """Words, times, and the costs of the best five of every cut, to the last bit."""
    return {
        name: (result.to_dict(nbest=5), [other.cost for other in result.nbest(5)])
        for name, result in asr.many(small_cuts).items()
    }


@pytest.fixture(scope="module")
def folder(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of lfmmi; tests that change it take a copy."""
    out = tmp_path_factory.mktemp("exports") / "lfmmi"
    export(small_run, "lfmmi", out)
    return out


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.fixture(scope="module")
def with_onnx(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    out = tmp_path_factory.mktemp("onnx") / "ce"
    written = export(small_run, "ce", out, onnx=True)
    assert written.difference is not None and written.difference < 1e-4
    return out


# ------------------------------------------------------------------ the same recogniser


@pytest.mark.parametrize("system", ["mono", "tri3_si", "ce", "lfmmi"])
def test_it_gives_the_runs_words_costs_and_times(
    small_copy: Path, small_cuts: CutSet, tmp_path: Path, system: str
) -> None:
    asr = load(small_copy, system)
    wanted, about = results(asr, small_cuts), (asr.sampling_rate, asr.per_speaker, vars(asr.search), repr(asr))
    assert len({str(value) for value in wanted.values()}) > 3
    export(small_copy, system, tmp_path / "out")
    shutil.rmtree(small_copy)
    shutil.move(tmp_path / "out", tmp_path / "elsewhere")
    asr = hybrid.load(tmp_path / "elsewhere")
    assert results(asr, small_cuts) == wanted
    assert (asr.sampling_rate, asr.per_speaker, vars(asr.search), repr(asr)) == about
    assert load(tmp_path / "elsewhere", system, condition="clean").system == system


def test_the_condition_chooses_the_scale(small_run: Path, small_cuts: CutSet, tmp_path: Path) -> None:
    export(small_run, "lfmmi", tmp_path / "noisy", condition="noisy")
    asr = load(tmp_path / "noisy")
    assert asr.search == load(small_run, "lfmmi", condition="noisy").search != load(small_run, "lfmmi").search
    assert results(asr, small_cuts) == results(load(small_run, "lfmmi", condition="noisy"), small_cuts)
    assert open_export(tmp_path / "noisy").condition == "noisy"
    with pytest.raises(ConfigError, match="holds the condition noisy, not clean"):
        load(tmp_path / "noisy", condition="clean")
    with pytest.raises(ConfigError, match="holds the system lfmmi, not ce"):
        load(tmp_path / "noisy", "ce")


def test_what_it_says_of_itself(small_copy: Path, tmp_path: Path) -> None:
    write_json(small_copy / "marks" / "07-lfmmi.json", {"stage": "lfmmi", "commit": "4be2d9c01f6a"})
    write_json(small_copy / "decode" / "lfmmi" / "clean" / "calibration.json", CALIBRATED)
    written = export(small_copy, "lfmmi", tmp_path / "out")
    about = read_json(tmp_path / "out" / "export.json")
    files = about.pop("files")
    assert about == {
        "kind": "hybrid export", "format": 1, "system": "lfmmi", "condition": "clean", "network": True, "onnx": False,
        "sampling_rate": RATE, "backend": "kaldi_native_fbank", "search": SEARCH, "commit": "4be2d9c01f6a",
    }  # fmt: skip
    there = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert set(files) == there - {"export.json"}
    assert not [name for name in there if name.endswith((".pkl", ".pt", ".npy"))]
    calibration = written.export.calibration
    assert calibration is not None and read_json(calibration) == CALIBRATED
    assert written.size == sum(path.stat().st_size for path in (tmp_path / "out").rglob("*"))
    for mark in (small_copy / "marks").iterdir():
        mark.unlink()
    (small_copy / "decode" / "lfmmi" / "clean" / "calibration.json").unlink()
    again = export(small_copy, "lfmmi", tmp_path / "out").export
    assert again.commit is None and again.calibration is None


def test_a_system_that_was_not_decoded(small_copy: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="student_ce .*was not decoded"):
        written = export(small_copy, "student_ce", tmp_path / "out")
    assert written.export.condition is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(tmp_path / "out").search.acoustic_scale == 0.3


def test_others_take_it_for_a_model(small_run: Path, folder: Path, tmp_path: Path) -> None:
    """`hybrid align --model` and `hybrid label` do, and `hybrid export` itself."""
    export(small_run, "mono", tmp_path / "mono")
    assert find_model(tmp_path / "mono") == (tmp_path / "mono", tmp_path / "mono" / "lang")
    assert about_of(folder, 5, "logits", "logits").num_pdfs == load(folder)._acoustics.num_pdfs
    export(folder, "lfmmi", tmp_path / "again")
    first, second = (read_json(path / "export.json") for path in (folder, tmp_path / "again"))
    assert first == second
    with pytest.raises(ConfigError, match="holds the system lfmmi, not ce"):
        export(folder, "ce", tmp_path / "other")


# ------------------------------------------------------------------ onnxruntime


def test_onnxruntime_gives_the_same(small_run: Path, with_onnx: Path, small_cuts: CutSet) -> None:
    assert isinstance(load(with_onnx)._acoustics, OnnxAcoustics)
    assert isinstance(load(with_onnx, onnx=False)._acoustics, NetworkAcoustics)
    wanted, found = load(small_run, "ce").many(small_cuts), load(with_onnx).many(small_cuts)
    assert {name: (result.text, result.words) for name, result in found.items()} == {
        name: (result.text, result.words) for name, result in wanted.items()
    }
    costs = [[asr[name].nbest(1)[0].cost for name in wanted] for asr in (wanted, found)]
    np.testing.assert_allclose(costs[0], costs[1], atol=1e-3)
    assert results(load(with_onnx, onnx=False), small_cuts) == results(load(small_run, "ce"), small_cuts)


def test_loglikes_of_onnxruntime(with_onnx: Path) -> None:
    rng = np.random.default_rng(0)
    features = {name: rng.normal(0, 3, (length, 20)).astype("f") for name, length in zip("abc", (3, 50, 131))}
    speakers = {"a": "s", "b": "s", "c": "t"}
    torch_form, onnx_form = NetworkAcoustics(with_onnx), OnnxAcoustics(with_onnx, "network.onnx")
    wanted, found = torch_form.loglikes(features, speakers), onnx_form.loglikes(features, speakers)
    assert list(found) == list(wanted)
    for name in features:
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], wanted[name], atol=1e-4)
    with ThreadPoolExecutor(2) as executor:
        shared = onnx_form.loglikes(features, speakers, executor=executor, jobs=2)
    assert list(shared) == list(found) and all(np.array_equal(shared[name], found[name]) for name in found)
    with pytest.raises(DataError, match="7 features a frame, the model reads 60"):
        onnx_form.outputs(np.zeros((4, 7), np.float32), "u")


_ALONE = """
import sys
import hybrid
asr = hybrid.load(sys.argv[1])
texts = [asr(path).text for path in sys.argv[2:]]
heavy = [name for name in ("torch", "lhotse", "k2", "sentencepiece", "matplotlib", "onnx") if name in sys.modules]
print(texts, heavy)
"""


def test_it_starts_without_torch_and_lhotse(with_onnx: Path, small_cuts: CutSet, tmp_path: Path) -> None:
    """Files of the model's rate and of another are read, recognised and timed."""
    path = next(iter(small_cuts)).recording.sources[0].source
    soundfile.write(tmp_path / "a.flac", soundfile.read(path)[0], 11025)
    answer = subprocess.run(
        [sys.executable, "-c", _ALONE, with_onnx, path, tmp_path / "a.flac"], capture_output=True, text=True,
        check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), *sys.path])},
    ).stdout.strip()  # fmt: skip
    asr = load(with_onnx)
    assert answer == f"{[asr(path).text, asr(tmp_path / 'a.flac').text]} []"


_TRANSCRIBES = """
import sys
from hybrid.cli import main

code = main(["transcribe", *sys.argv[1:]])
print(code, [name for name in ("torch", "lhotse", "k2") if name in sys.modules])
"""


def test_the_command_transcribes_files_without_torch_and_lhotse(
    with_onnx: Path, small_cuts: CutSet, tmp_path: Path
) -> None:
    path = next(iter(small_cuts)).recording.sources[0].source
    said = subprocess.run(
        [sys.executable, "-c", _TRANSCRIBES, with_onnx, path, "--no-endpoints", "--jobs", "1"], capture_output=True,
        text=True, check=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), *sys.path])},
    ).stdout.splitlines()  # fmt: skip
    assert said == [load(with_onnx)(path).text, "0 []"]


def test_without_onnxruntime_torch_runs_it(with_onnx: Path, small_cuts: CutSet, small_run: Path, monkeypatch) -> None:
    monkeypatch.setattr(load_module, "onnxruntime_installed", lambda: False)
    asr = load(with_onnx)
    assert isinstance(asr._acoustics, NetworkAcoustics)
    assert results(asr, small_cuts) == results(load(small_run, "ce"), small_cuts)
    with pytest.raises(MissingDependency, match=r"hybrid-asr\[onnx\]"):
        load(with_onnx, onnx=True)


def test_onnx_where_there_is_none(small_run: Path, folder: Path, tmp_path: Path) -> None:
    for path in (small_run, folder):
        with pytest.raises(ConfigError, match="hybrid export EXP SYSTEM OUT --onnx"):
            load(path, "lfmmi", onnx=True)
    with pytest.raises(ConfigError, match="mono is of Gaussians"):
        export(small_run, "mono", tmp_path / "out", onnx=True)
    assert not (tmp_path / "out").exists()


def test_an_onnx_form_that_differs_is_not_written(small_run: Path, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("onnxruntime")
    real = export_module.onnx_bytes
    monkeypatch.setattr(
        export_module, "onnx_bytes",
        lambda kind, config, arrays: real(kind, config, {**arrays, "output.bias": arrays["output.bias"] + 0.1}),
    )  # fmt: skip
    with pytest.raises(ModelError, match="differ from torch's by 0.1"):
        export(small_run, "lfmmi", tmp_path / "out", onnx=True)
    assert list(tmp_path.iterdir()) == []


def test_onnx_of_another_model_or_with_files_of_its_own(with_onnx: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(with_onnx, tmp_path / "copy"))
    data = (copy / "network.onnx").read_bytes()
    for damaged in (data[: len(data) // 2], b"", b"x" * 1000, data + b"location"):
        (copy / "network.onnx").write_bytes(damaged)
        reseal(copy)
        with pytest.raises(ModelError) as error:
            load(copy)
        assert str(error.value.file).endswith("network.onnx") and error.value.remedy
    other = network("lstm", {})
    (copy / "network.onnx").write_bytes(onnx_bytes("lstm", other.config.to_dict(), state_arrays(other)))
    reseal(copy)
    with pytest.raises(ModelError, match="not from 60 features to .* pdfs .*network.onnx"):
        load(copy)


# ------------------------------------------------------------------ where it is written


def test_it_takes_the_place_of_an_export_or_of_nothing(small_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    export(small_run, "mono", out)
    (out / "notes.txt").write_text("mine")
    export(small_run, "lfmmi", out)
    assert load(out).system == "lfmmi" and not (out / "notes.txt").exists()
    link = tmp_path / "link"
    link.symlink_to(out)
    export(small_run, "mono", link)
    assert link.is_symlink() and load(link).system == load(out).system == "mono"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "out"]


@pytest.mark.parametrize("about", [None, "{", "[]", '{"kind": "other"}'])
def test_it_takes_the_place_of_nothing_else(small_run: Path, tmp_path: Path, about) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years")
    if about is not None:
        (tmp_path / "out" / "export.json").write_text(about)
    with pytest.raises(ConfigError, match="neither an export nor empty") as error:
        export(small_run, "mono", tmp_path / "out")
    assert error.value.remedy and (tmp_path / "out" / "thesis.txt").read_text() == "years"
    (tmp_path / "file").write_text("a")
    with pytest.raises(ConfigError, match="is no folder"):
        export(small_run, "mono", tmp_path / "file")
    with pytest.raises(ConfigError, match="neither an export nor empty"):
        export(small_run, "mono", small_run)


def test_what_stood_there_stays_until_it_is_whole(small_run: Path, tmp_path: Path, monkeypatch) -> None:
    export(small_run, "mono", tmp_path / "out")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export_module, "write_search_graph", full)
    with pytest.raises(HybridError, match="No space left"):
        export(small_run, "lfmmi", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"] and load(tmp_path / "out").system == "mono"


def test_parts_of_two_runs_are_not_exported(small_copy: Path, tmp_path: Path) -> None:
    shutil.copy(small_copy / "graph" / "mono.fst", small_copy / "graph" / "network.fst")
    with pytest.raises(GraphError, match="input labels up to") as error:
        export(small_copy, "ce", tmp_path / "out")
    assert error.value.file == str(small_copy / "graph" / "network.fst")
    Lang.create(Lexicon.from_dict({"A": ["a"]})).save(small_copy / "lang")
    with pytest.raises(ModelError, match="the graph has words up to") as error:
        export(small_copy, "mono", tmp_path / "out")
    assert error.value.file == str(small_copy / "graph" / "mono.fst") and not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="adapts to each speaker.*tri3_si"):
        export(small_copy, "tri3", tmp_path / "out")


def test_the_command(small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["export", str(small_run), "lfmmi", str(tmp_path / "out"), "--condition", "noisy"]) == 0
    assert "out: lfmmi, " in capsys.readouterr().out
    assert open_export(tmp_path / "out").condition == "noisy"
    assert cli.main(["export", str(small_run), "lfmmi", str(small_run)]) == 2
    assert "neither an export nor empty" in capsys.readouterr().err
    assert cli.main(["export", str(tmp_path / "nowhere"), "lfmmi", str(tmp_path / "out")]) == 1


# ------------------------------------------------------------------ what comes from elsewhere


def reseal(folder: Path, **changes: Any) -> None:
    """Name what is there in export.json, as who means ill would."""
    about = read_json(folder / "export.json")
    write_json(folder / "export.json", {**about, "files": describe(folder), **changes})


def _cut(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-1])


def _flip(name: str) -> Callable[[Path], None]:
    def flip(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(data)

    return flip


def _link(name: str) -> Callable[[Path], None]:
    def link(folder: Path) -> None:
        target = folder.parent / "target"
        shutil.move(folder / name, target)
        (folder / name).symlink_to(target)

    return link


def _about(change: Callable[[Dict[str, Any]], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        about = read_json(folder / "export.json")
        change(about)
        write_json(folder / "export.json", about)

    return edit


def _text(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text)


def _files(name: str, row: Any) -> Callable[[Path], None]:
    return _about(lambda about: about["files"].update({name: row}))


ROW = {"bytes": 1, "sha256": "", "sampled": ""}
BAD = [
    (_cut("model.safetensors"), "bytes instead of.*model.safetensors"),
    (_cut("lang/words.txt"), "bytes instead of.*words.txt"),
    (_flip("model.safetensors"), "not what was exported.*model.safetensors"),
    (_flip("graph.safetensors"), "not what was exported.*graph.safetensors"),
    (_flip("lang/lexicon.txt"), "not what was exported.*lexicon.txt"),
    (lambda folder: (folder / "graph.safetensors").unlink(), "not there.*graph.safetensors"),
    (lambda folder: shutil.rmtree(folder / "lang"), "not there.*lang/"),
    (_link("model.safetensors"), "symbolic link.*model.safetensors"),
    (_link("lang/words.txt"), "symbolic link.*words.txt"),
    (_link("senones"), "symbolic link.*senones"),
    (_link("export.json"), "symbolic link.*export.json"),
    (_files("../target", ROW), r"names '../target', which is no file of an export"),
    (_files("/etc/passwd", ROW), "names '/etc/passwd'"),
    (_files("lang/../../target", ROW), "no file of an export"),
    (_files("lang/a/b", ROW), "no file of an export"),
    (_files("..", ROW), "no file of an export"),
    (_files("", ROW), "no file of an export"),
    (_files("config.json", None), "describes config.json as None"),
    (_files("config.json", {"bytes": -1}), "describes config.json as"),
    (_files("config.json", {"bytes": "393"}), "describes config.json as"),
    (_about(lambda about: about["files"].pop("lang/words.txt")), "does not name lang/words.txt"),
    (_about(lambda about: about["files"].pop("senones/topo")), "does not name this file.*topo"),
    (_text("lang/pieces.model", "x"), "does not name this file.*pieces.model"),
    (_text("calibration.json", "{}"), "does not name this file.*calibration.json"),
    (_text("export.json", "{"), "not JSON"),
    (_text("export.json", "[]"), "not of an export"),
    (_about(lambda about: about.update(kind="other")), "not of an export"),
    (_about(lambda about: about.update(format=2)), "an export of format 2, this version reads 1.*export the run again"),
    (_about(lambda about: about.update(files=[])), "no list of files"),
    (_about(lambda about: about.update(onnx=True)), "does not name network.onnx"),
    (_about(lambda about: about.pop("system")), "system is None"),
    (_about(lambda about: about.update(sampling_rate="16k")), "sampling_rate is '16k'"),
    (_about(lambda about: about.update(commit=5)), "commit is 5"),
    (_about(lambda about: about["search"].update(beam=-1.0)), "search settings of no use"),
    (_about(lambda about: about["search"].update(acoustic_scale="1")), "search settings of no use"),
    (_about(lambda about: about["search"].update(max_active=float("nan"))), "search settings of no use"),
    (_about(lambda about: about["search"].update(colour=1.0)), "search: .*colour"),
]


@pytest.mark.parametrize("damage, words", BAD, ids=range(len(BAD)))
def test_a_folder_that_is_not_as_it_was_exported(copy: Path, damage: Callable[[Path], None], words: str) -> None:
    damage(copy)
    with pytest.raises(ModelError, match=words) as error:
        load(copy)
    assert str(error.value.file).startswith(str(copy)) and error.value.remedy


def _model(change: Callable[[Dict[str, Any]], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        config = read_json(folder / "config.json")
        change(config)
        write_json(folder / "config.json", config)

    return edit


def _features(change: Callable[[Dict[str, Any]], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        settings = read_json(folder / "features.json")
        change(settings)
        write_json(folder / "features.json", settings)

    return edit


SEALED = [
    (_text("config.json", "{"), "config.json"),
    (_text("config.json", "[]"), "config.json"),
    (_model(lambda config: config.update(format=9)), "config.json"),
    (_model(lambda config: config.update(kind="gru")), "config.json"),
    (_model(lambda config: config.pop("frame_shift")), "config.json"),
    (_model(lambda config: config["model"].update(hidden=-16)), "config.json"),
    (_model(lambda config: config["model"].update(num_pdfs=2**40)), "config.json"),
    (_model(lambda config: config["model"].update(num_pdfs=3)), "model.safetensors"),
    (_cut("model.safetensors"), "model.safetensors"),
    (_cut("graph.safetensors"), "graph.safetensors"),
    (_text("graph.safetensors", "x"), "graph.safetensors"),
    (_text("features.json", "{}"), "features.json"),
    (_text("lang/words.txt", "<eps> 0\n"), "lang"),
    (_text("lang/phones.txt", "<eps> zero\n"), "lang/phones.txt"),
    (_text("lang/config.json", "[]"), "lang/config.json"),
    (_text("senones/tree.json", '{"root": 1}'), "senones"),
    (_text("senones/phones.json", "[]"), "senones/phones.json"),
    (_model(lambda config: config.update(frame_shift="x")), "config.json"),
    (_model(lambda config: config.update(frame_shift=-0.03)), "config.json"),
    (_features(lambda settings: settings.update(frame_subsampling_factor=0)), "features.json"),
    (_features(lambda settings: settings.update(frame_subsampling_factor=2)), ""),
    (_features(lambda settings: settings["logmel"].update(num_bins=-20)), "features.json"),
    (_features(lambda settings: settings["logmel"].update(num_bins=21)), ""),
]


@pytest.mark.parametrize("damage, file", SEALED, ids=range(len(SEALED)))
def test_a_folder_whose_hashes_are_right_and_whose_files_are_not(copy: Path, damage, file: str) -> None:
    damage(copy)
    reseal(copy)
    with pytest.raises(HybridError) as error:
        load(copy)
    assert str(error.value.file).startswith(str(copy / file)) and error.value.remedy


def test_a_graph_of_another_model(small_run: Path, copy: Path, tmp_path: Path) -> None:
    """Its labels lie beyond the columns of the network, or its words beyond the lexicon."""
    export(small_run, "tri3_si", tmp_path / "other")
    shutil.copy(tmp_path / "other" / "graph.safetensors", copy)
    reseal(copy)
    with pytest.raises(GraphError, match="input labels up to .*graph.safetensors"):
        load(copy)
    Lang.create(Lexicon.from_dict({"A": ["a"]})).save(tmp_path / "other" / "lang")
    reseal(tmp_path / "other")
    with pytest.raises(ModelError, match="the graph has words up to"):
        load(tmp_path / "other")


def test_senones_and_priors_of_another_model(small_run: Path, copy: Path, with_onnx: Path, tmp_path: Path) -> None:
    shutil.rmtree(copy / "senones")
    shutil.copytree(small_run / "gmm" / "mono" / "senones", copy / "senones")
    reseal(copy)
    with pytest.raises(ModelError, match="the parts are of several models"):
        load(copy)
    other = Path(shutil.copytree(with_onnx, tmp_path / "other"))
    save_priors(other / "senones", np.full(5, 0.2))
    reseal(other)
    with pytest.raises(ModelError, match="the parts are of several models"):
        load(other)


def test_large_files_are_sampled(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exported, "_HASHED", 10)
    reseal(copy)
    assert load(copy).system == "lfmmi"
    monkeypatch.setattr(exported, "_sha256", lambda path: pytest.fail("it was read whole"))
    assert load(copy).system == "lfmmi"
    _flip("model.safetensors")(copy)
    with pytest.raises(ModelError, match="not what was exported"):
        load(copy)


def test_what_is_put_beside_it_does_no_harm(copy: Path) -> None:
    (copy / "README.md").write_text("Ours.")
    (copy / ".git").mkdir()
    assert load(copy).system == "lfmmi"


# ------------------------------------------------------------------ words that are read when they are needed


@pytest.mark.parametrize("position_dependent", [False, True])
def test_a_deferred_lang_is_the_lang(tmp_path: Path, position_dependent: bool, monkeypatch) -> None:
    lexicon = Lexicon.from_dict({"AB": ["a b", "a"], "C": ["c"], "BA": ["b a"], "A": ["a"]})
    lang = Lang.create(lexicon, position_dependent=position_dependent, spoken_noise="SPN")
    lang.save(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Lang, "load", lambda folder: pytest.fail("all of it was read"))
        deferred = DeferredLang(tmp_path)
        assert (deferred.words, deferred.phones, deferred.oov) == (lang.words, lang.phones, lang.oov)
        assert deferred.word_disambig == lang.word_disambig and deferred.phone_ids == lang.phone_ids
        assert deferred.disambig_phones == lang.disambig_phones and deferred.phone_names == lang.phone_names
        assert deferred.text([1, 3, 2]) == lang.text([1, 3, 2])
    assert deferred.pronunciation_ids("AB") == lang.pronunciation_ids("AB")
    assert deferred.L.num_states == lang.L.num_states and deferred.silence_ids == lang.silence_ids
    assert vars(deferred).keys() >= vars(Lang.load(tmp_path)).keys()
    assert deferred.L_disambig.num_states == lang.L_disambig.num_states
    with pytest.raises(AttributeError, match="no attribute 'colour'"):
        deferred.colour  # noqa: B018


def test_a_deferred_lang_of_what_is_none(tmp_path: Path) -> None:
    Lang.create(Lexicon.from_dict({"A": ["a"]})).save(tmp_path)
    words = (tmp_path / "words.txt").read_text()
    (tmp_path / "words.txt").write_text("A 1\n")
    with pytest.raises(ModelError, match="without #0"):
        DeferredLang(tmp_path)
    (tmp_path / "words.txt").write_text(words)
    (tmp_path / "config.json").write_text(json.dumps([1]))
    with pytest.raises(ModelError, match="config.json"):
        DeferredLang(tmp_path)
