"""The report's reliability diagrams and calibration errors, from what the decode stage writes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict

import numpy as np
import pytest
from lhotse import CutSet
from test_report import _Reader

from hybrid.data.audio import load_samples
from hybrid.decode.calibration import Bin, summary
from hybrid.decode.load import load
from hybrid.io import read_json, write_json
from hybrid.parallel import SerialExecutor
from hybrid.pipeline.confidences import Confidences
from hybrid.pipeline.sets import DecodeSet
from hybrid.pipeline.systems import system
from hybrid.report import plots, write_report, write_results_md
from hybrid.report.calibration import in_order
from hybrid.report.gather import gather
from hybrid.score.results import decode_folder

RIGHT = [True] * 8 + [False] * 2 + [True, False, False, False]
CONF = [0.75] * 10 + [0.25] * 4  # ranges of 10 and 4 words, right 0.8 and 0.25 of the time: ECE 10/14 * 0.05


def judged(**more: Any) -> Dict[str, Any]:
    return {**summary(np.array(CONF), np.array(RIGHT)), **more}


def write(exp: Path, name: str, value: Any, condition: str = "clean") -> Path:
    file = decode_folder(exp, "ce", condition, name) / "confidence.json"
    write_json(file, value)
    return file


def shown(exp: Path) -> str:
    reader = _Reader(write_report(exp).read_text(encoding="utf-8"))
    assert reader.problems == []
    return " ".join(" ".join(reader.text).split())


def markdown(exp: Path) -> str:
    write_results_md(exp, exp / "R.md", "t")
    return (exp / "R.md").read_text(encoding="utf-8")


def test_what_is_measured_where_it_was_learnt_is_marked(tmp_path: Path) -> None:
    learnt_on = {"set": "dev", "condition": "noisy"}
    write(tmp_path, "dev", judged(learnt_on=learnt_on), "noisy")
    write(tmp_path, "test", judged(learnt_on=learnt_on), "rerecorded")
    text = markdown(tmp_path)
    assert "| ce | rerecorded | test | dev noisy | 14 | 5 | 3.57 | " in text
    assert "| ce | noisy | dev | dev noisy, the same set | 14 | 5 | 3.57* | " in text
    assert text.index("| rerecorded |") < text.index("| noisy |"), "what says most of new speech comes first"
    assert "* measured on the set that the calibration was learnt on" in text
    page = shown(tmp_path)
    assert "ce rerecorded test dev noisy 14 5 3.57 " in page
    assert "ce noisy dev dev noisy the same set 14 5 3.57* " in page
    assert "test, rerecorded: ECE 3.57 % " in page and "dev, noisy: ECE 3.57 %*" in page
    assert "judges the test sets too" not in page


def test_all_test_sets_together_have_the_error_of_their_words_as_one_set(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    conf = rng.random(500)
    right = rng.random(500) < conf**2
    write(tmp_path, "dev", judged(learnt_on={"set": "dev", "condition": "clean"}))
    for condition, part in (("clean", slice(0, 120)), ("noisy", slice(120, 500))):
        write(tmp_path, "test", summary(conf[part], right[part]), condition)
    whole = summary(conf, right)
    first, *rest = in_order(gather(tmp_path))
    assert (first.set, first.condition, first.words, first.wrong) == ("all", "all", 500, whole["wrong"])
    assert first.ece == pytest.approx(whole["ece"], abs=1e-4)
    assert [row.set for row in rest] == ["test", "test", "dev"]
    cells = f"ce | all | all | each as below | 500 | {whole['wrong']} | {100 * whole['ece']:.2f} | "
    assert cells in markdown(tmp_path)
    assert "all, all: ECE" in shown(tmp_path)


def test_dev_alone_is_said_to_say_little(tmp_path: Path) -> None:
    write(tmp_path, "dev", judged())  # of a run from before what it was learnt on was recorded
    page = shown(tmp_path)
    assert "dev clean the same set 14 5 3.57*" in page and 'decode.confidence = "test" judges the test sets' in page


def test_a_test_set_alone_has_no_mark(tmp_path: Path) -> None:
    write(tmp_path, "test", judged())
    for text in (shown(tmp_path), markdown(tmp_path)):
        assert "not recorded" in text and "3.57" in text and "3.57*" not in text and "the same set" not in text


def test_all_words_right(tmp_path: Path) -> None:
    write(tmp_path, "test", summary(np.full(20, 0.9), np.ones(20, bool)))
    assert "| 20 | 0 | 10.00 | 5.35 | - |" in markdown(tmp_path)
    assert "20 0 10.00 5.35 -" in shown(tmp_path)


def test_a_set_without_words(tmp_path: Path) -> None:
    write(tmp_path, "test", summary(np.zeros(0), np.zeros(0, bool)))
    assert "| 0 | 0 | 0.00 | 0.00 | - |" in markdown(tmp_path) and "ECE 0.00 %" in shown(tmp_path)


def test_a_run_without_them_has_no_such_part(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"run.jobs": 1})
    assert "onfidence" not in write_report(tmp_path).read_text(encoding="utf-8") + markdown(tmp_path)


SOUND = judged()


@pytest.mark.parametrize(
    "value, says",
    [
        ([], "AttributeError|TypeError"),
        ({}, "KeyError: 'bins'"),
        ({**SOUND, "bins": [{"low": 0}]}, "KeyError"),
        ({**SOUND, "bins": SOUND["bins"][1:]}, "ranges of 10 words"),
        ({**SOUND, "wrong": 15}, "15 wrong of 14"),
        ({**SOUND, "ece": 3.57}, "a share that is none"),
        ({**SOUND, "ece": "low"}, "ValueError"),
        ({**SOUND, "learnt_on": "dev"}, "TypeError"),
        ({**SOUND, "bins": [{**SOUND["bins"][0], "right": -0.5}, SOUND["bins"][1]]}, "a share that is none"),
    ],
)
def test_a_broken_file_is_named_and_the_others_shown(tmp_path: Path, value: Any, says: str) -> None:
    write(tmp_path, "dev", judged())
    write(tmp_path, "test", value)
    for text in (shown(tmp_path), markdown(tmp_path)):
        assert re.search(rf"decode/ce/clean/test/confidence.json: no confidences of words \((ranges.*)?({says})", text)
        assert "3.57*" in text
    assert [row.set for row in gather(tmp_path).confidences] == ["dev"]


def test_the_diagram_has_what_was_counted() -> None:
    bins = [Bin(0.2, 0.3, 4, 0.25, 0.25), Bin(0.9, 1.0, 1234, 0.97, 0.98)]
    drawn = plots.reliability([("a set", bins), ("another", bins[:1])])
    assert _Reader(drawn).problems == []
    texts = re.findall(r">([^<>\n]+)</text>", drawn)
    assert texts.count("4") == 2 and texts.count("1234") == 1
    assert "a set" in drawn and "another" in drawn and drawn.count("share of right words") == 1
    # a dotted diagonal a panel, an interval a range, a line through the points
    assert drawn.count("stroke-dasharray") == 2
    assert len(re.findall(r"stroke: var\(--s1\); stroke-opacity: 0.55; stroke-width: 1.6", drawn)) == 3
    assert drawn == plots.reliability([("a set", bins), ("another", bins[:1])])
    assert drawn != plots.reliability([("a set", [bins[0]._replace(right=0.5), bins[1]]), ("another", bins[:1])])


def test_the_decode_stage_writes_what_the_report_shows(small_copy: Path, small_cuts: CutSet) -> None:
    asr = load(small_copy, "ce")
    loglikes = {
        cut.id: asr._acoustics.loglikes({cut.id: asr._features(cut.id, load_samples(cut, 8000))})[cut.id]
        for cut in small_cuts
    }
    said = {name: [word.word for word in result.words] for name, result in asr.many(small_cuts).items()}
    references = {name: words if k % 2 else ["ACE"] for k, (name, words) in enumerate(said.items())}
    run: Any = SimpleNamespace(
        exp=small_copy, dir=lambda name: small_copy / name,
        settings=SimpleNamespace(decode=SimpleNamespace(confidence="test")),
    )  # fmt: skip
    search = asr.search
    confidences = Confidences(
        run, system("ce"), "clean", small_copy / "graph" / "network.fst", SerialExecutor(),
        {"beam": search.beam, "max_active": search.max_active},
    )  # fmt: skip
    tuning: Any = SimpleNamespace(scale=search.acoustic_scale, penalty=search.word_penalty)
    for which in (DecodeSet("dev", "dev", "clean"), DecodeSet("test", "test", "noisy")):
        confidences.add(which, tuning, loglikes, references)
    value = read_json(decode_folder(small_copy, "ce", "noisy", "test") / "confidence.json")
    assert value["learnt_on"] == {"set": "dev", "condition": "clean"} and 0 < value["wrong"] < value["words"]
    text, page = markdown(small_copy), shown(small_copy)
    rate, counts = f"{100 * value['ece']:.2f}", f"{value['words']} | {value['wrong']}"
    assert f"| ce | noisy | test | dev clean | {counts} | {rate} |" in text
    assert f"| ce | clean | dev | dev clean, the same set | {counts} | {rate}* |" in text
    assert f"test, noisy: ECE {rate} % " in page and f"dev, clean: ECE {rate} %*" in page
    for one in value["bins"]:
        assert f" {one['words']} " in page
    assert json.loads(json.dumps(value)) == value
