"""`hybrid transcribe` stopped within a recording: what was kept of it, and the same bytes as without a stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, List, Optional

import numpy as np
import pytest
import soundfile
from lhotse import CutSet
from small_run import RATE

from hybrid.cli import main
from hybrid.data.audio import load_samples
from hybrid.data.cmvn import CmvnStats
from hybrid.data.features import FeatureExtractor, LogMel
from hybrid.data.online_cmvn import OnlineCmvnConfig
from hybrid.decode.load import load
from hybrid.decode.recogniser import Recogniser
from hybrid.decode.recording import Checkpoint, RecordingDecoder
from hybrid.decode.result import Result
from hybrid.decode.segments import Endpointing, Rule
from hybrid.errors import DataError, ModelError
from hybrid.io import load_tensors, read_jsonl, save_tensors
from hybrid.nnet.model_io import build_model
from hybrid.nnet.streaming import StreamState
from hybrid.online.gaussians import GmmStream
from hybrid.online.network import ChunkConfig, OnlineNetwork
from hybrid.online.windows import WindowedStream
from hybrid.transcribe import parts

FORMATS = "text,json,ctm,srt,vtt,textgrid"
SHORT = Endpointing((Rule(False, 0.0, utterance_length=1.5),), 20.0)  # noise has no pauses: an endpoint every 1.5 s


@pytest.fixture(scope="module")
def samples(small_cuts: CutSet) -> np.ndarray:
    """Of 30 s."""
    joined = np.concatenate([load_samples(cut, RATE) for cut in small_cuts] * 3)
    return np.asarray(joined[: 30 * RATE] / np.abs(joined).max(), np.float32)


@pytest.fixture
def audio(samples: np.ndarray, tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "long.wav", samples, RATE)
    return tmp_path / "long.wav"


@pytest.fixture
def shorter(samples: np.ndarray, tmp_path: Path) -> Path:
    """Of 12 s."""
    soundfile.write(tmp_path / "shorter.wav", samples[: 12 * RATE], RATE)
    return tmp_path / "shorter.wav"


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is said is kept at once, of recordings of any length, and noise has endpoints."""
    monkeypatch.setattr(parts, "LONG", 1.0)
    monkeypatch.setattr(parts, "EVERY", 0.0)
    monkeypatch.setattr(Endpointing, "rules", SHORT.rules)


# ------------------------------------------------------------------ the acoustics, bit for bit


@pytest.mark.parametrize("system", ["mono", "ce", "lfmmi", "student_ce"])
def test_utterances_behind_any_checkpoint_are_the_same(small_run: Path, audio: Path, system: str) -> None:
    asr = load(small_run, system)
    recording = asr.recording(audio, endpointing=SHORT)
    results: List[Result] = []
    checkpoints: List[Optional[Checkpoint]] = []
    for result in recording:
        results.append(result)
        checkpoints.append(recording.checkpoint())
    assert len(results) > 12 and sum(one is not None for one in checkpoints) > 10
    assert [str(word) for one in results for word in one.words]
    for number in (0, 7, len(results) - 3):
        place = checkpoints[number]
        assert place is not None and place.acoustics["row"][0] <= place.frame
        again = list(asr.recording(audio, endpointing=SHORT, resume=place))
        assert again == results[number + 1 :], "words, times and confidences"
        for one, other in zip(again, results[number + 1 :], strict=True):
            assert one.nbest(5) == other.nbest(5), "with the costs of the alternatives"


def test_behind_a_cut_for_length_there_is_no_place(small_run: Path, shorter: Path) -> None:
    asr = load(small_run, "ce")
    recording = asr.recording(shorter, endpointing=Endpointing((), 1.0))
    places = [recording.checkpoint() for _ in recording]
    assert len(places) > 3 and places[:-1] == [None] * (len(places) - 1)


def test_a_recording_that_has_become_shorter(small_run: Path, shorter: Path, samples: np.ndarray) -> None:
    asr = load(small_run, "ce")
    recording = asr.recording(shorter, endpointing=SHORT)
    place = [recording.checkpoint() for _ in recording][-2]
    soundfile.write(shorter, samples[: 4 * RATE], RATE)
    with pytest.raises(DataError, match="frames before what was already transcribed"):
        list(asr.recording(shorter, endpointing=SHORT, resume=place))


KINDS: Dict[str, Any] = {
    "lstm": ("lstm", {"hidden": 12, "layers": 2, "dropout": 0.0}, ChunkConfig(8)),
    "delay": ("lstm", {"hidden": 12, "layers": 2, "dropout": 0.0, "bidirectional": False, "delay": 5}, ChunkConfig(8)),
    "blstm": ("lstm", {"hidden": 12, "layers": 2, "dropout": 0.0, "bidirectional": True}, ChunkConfig(24, 10)),
    "tdnnf": ("tdnnf", {"hidden": 24, "bottleneck": 8}, ChunkConfig(8)),
}


def network_of(kind: str, input_dim: int) -> OnlineNetwork:
    name, values, chunk = KINDS[kind]
    network = build_model(name, {"input_dim": input_dim, "num_pdfs": 11, **values}, 3)
    if kind == "lstm":
        chunk = ChunkConfig(chunk.chunk, 4 if network.config.bidirectional else 0)
    return OnlineNetwork(network, chunk)


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_goes_on_with_its_state(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybrid.online.network.POINTS", 16)
    network = network_of(kind, 60)
    frames = np.random.default_rng(2).standard_normal((407, 60)).astype(np.float32)
    stream = network.create()
    stream.record()
    rows: List[np.ndarray] = []
    places = []
    for begin in range(0, len(frames), 37):
        rows.append(network.accept(stream, frames[begin : begin + 37]))
        done = sum(map(len, rows))
        if done > 30:
            places.append((done - 25, stream.checkpoint(done - 25)))
            assert len(stream.points or []) <= 4, "what lies before is forgotten"
    whole = np.concatenate([*rows, network.finish(stream)])
    assert len(whole) == len(frames)
    steps: List[int] = []
    real = type(network._stream).step

    def counted(self: Any, state: StreamState, chunk: Any) -> Any:
        steps.append(chunk.keep)
        return real(self, state, chunk)

    monkeypatch.setattr(type(network._stream), "step", counted)
    for row, place in places:
        save_tensors(tmp_path / "state", place)
        again = network.create()
        again.resume(load_tensors(tmp_path / "state"))
        first = int(place["row"][0])
        assert row - 16 - network.config.chunk <= first <= row
        steps.clear()
        resumed = np.concatenate([network.accept(again, frames[:200]), network.accept(again, frames[200:]),
                                  network.finish(again)])  # fmt: skip
        assert np.array_equal(resumed, whole[first:]), "the same bits"
        assert sum(steps) <= len(frames) - first + 40, "what is known is not computed"
    with pytest.raises(ModelError, match="no state is kept of row"):
        stream.checkpoint(0)


@pytest.mark.parametrize("row", [0, 7, 10, 19, 150])
def test_gaussians_go_on(row: int) -> None:
    class Half:  # frame t is scored by frames t - 1 to t + 2
        left, right, base_dim = 1, 2, 3

        @staticmethod
        def apply(frames: np.ndarray, lengths: List[int]) -> np.ndarray:
            padded = np.concatenate([frames[:1], frames, np.repeat(frames[-1:], 2, axis=0)])
            return np.concatenate([padded[k : k + len(frames)] for k in range(4)], axis=1)

    scored: List[int] = []

    def loglikes(x: np.ndarray, adapted: bool) -> np.ndarray:
        scored.append(len(x))
        return x

    model: Any = SimpleNamespace(feature_transform=Half, gmms=SimpleNamespace(num_pdfs=12), loglikes=loglikes)
    frames = np.random.default_rng(0).standard_normal((157, 3)).astype(np.float32)
    whole_stream, again = GmmStream(model, 10), GmmStream(model, 10)
    whole = np.concatenate([whole_stream.accept(frames), whole_stream.finish()])
    scored.clear()
    place = whole_stream.checkpoint(row)
    again.resume(place)
    rows = np.concatenate([again.accept(frames[:33]), again.accept(frames[33:]), again.finish()])
    first = int(place["row"][0])
    assert row - 10 < first <= row and np.array_equal(rows, whole[first:]) and sum(scored) == 157 - first


@pytest.mark.parametrize("row", [0, 599, 600, 1300, 2049])
def test_windows_go_on(row: int) -> None:
    computed: List[int] = []

    def outputs(x: np.ndarray) -> np.ndarray:  # each row of the whole window, as a recurrent network's
        computed.append(len(x))
        return np.cumsum(x[:, :2], axis=0, dtype=np.float32)

    features = LogMel(sampling_rate=RATE, num_bins=4)
    acoustics: Any = SimpleNamespace(
        features=features, num_pdfs=2, cmvn="none", online_cmvn=OnlineCmvnConfig(), frame_subsampling_factor=3,
        outputs=outputs,
    )  # fmt: skip
    audio = np.random.default_rng(0).standard_normal(RATE * 63).astype(np.float32) / 9

    def rows_of(stream: WindowedStream) -> np.ndarray:
        parts = [stream.accept(audio[begin : begin + 70_001]) for begin in range(0, len(audio), 70_001)]
        return np.concatenate([*parts, stream.finish()])

    extractor = FeatureExtractor(features, "auto")
    whole = rows_of(WindowedStream(acoustics, extractor))
    assert len(whole) == 2100 and len(computed) == 4
    computed.clear()
    again = WindowedStream(acoustics, extractor)
    place = again.checkpoint(row)
    again.resume(place)
    first = int(place["row"][0])
    assert row - 600 < first <= row and np.array_equal(rows_of(again), whole[first:])
    assert len(computed) == 4 - first // 600


def test_states_are_few_where_nothing_ends(small_run: Path, shorter: Path) -> None:
    """Of a transcription that nobody asks for a checkpoint."""
    asr = load(small_run, "ce")
    recording = asr.recording(shorter, endpointing=Endpointing((), 1.0))
    assert len(list(recording)) > 3
    assert len(recording.stream.scores.stream.points) <= 2, "of 5"  # type: ignore[attr-defined]


# ------------------------------------------------------------------ the command


def run(*arguments: Any) -> int:
    return main(["transcribe", *map(str, arguments), "--jobs", "1", "--format", FORMATS])


def outputs(folder: Path) -> Dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*")) if path.is_file() and path.relative_to(folder).parts[0] not in
        ("work", "logs")
    }  # fmt: skip


def stop_after(monkeypatch: pytest.MonkeyPatch, number: int) -> List[Result]:
    """Break off when so many utterances have come; return those that came."""
    came: List[Result] = []
    real: Callable[..., Any] = RecordingDecoder.__iter__

    def watched(self: RecordingDecoder) -> Any:
        for result in real(self):
            if len(came) == number:
                raise KeyboardInterrupt
            came.append(result)
            yield result

    monkeypatch.setattr(RecordingDecoder, "__iter__", watched)
    return came


@pytest.mark.slow
@pytest.mark.parametrize("system", ["mono", "ce"])
def test_stopped_anywhere_it_gives_the_same_bytes(
    small_run: Path, audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, system: str
) -> None:
    assert run(small_run, audio, "--system", system, "--nbest", 3, "--out", tmp_path / "whole") == 0
    whole = outputs(tmp_path / "whole")
    assert {"text", "transcripts.jsonl", "words.ctm", "captions/long.srt"} <= set(whole)
    (transcript,) = read_jsonl(tmp_path / "whole" / "transcripts.jsonl")
    total = len(transcript["segments"])
    assert total > 12
    stats = monkeypatch_count(monkeypatch)
    for number in (0, 1, total // 2, total - 1):
        out = tmp_path / f"stopped{number}"
        with monkeypatch.context() as patch:
            stop_after(patch, number)
            assert run(small_run, audio, "--system", system, "--nbest", 3, "--out", out) == 130
        assert not (out / "text").exists()
        capsys.readouterr()
        with monkeypatch.context() as patch:
            came = stop_after(patch, 10**6)
            assert run(small_run, audio, "--system", system, "--nbest", 3, "--out", out) == 0
        said = capsys.readouterr().err
        assert ("long: goes on at" in said) == (number > 0)
        assert len(came) <= total - number + 3, "few utterances are done twice"
        assert outputs(out) == whole
        assert not list((out / "work" / "parts").glob("*")), "nothing is left behind"
    assert len(stats) == 4, "the mean is not computed again"


def monkeypatch_count(monkeypatch: pytest.MonkeyPatch) -> List[CmvnStats]:
    made: List[CmvnStats] = []
    real = Recogniser.feature_stats

    def counted(self: Recogniser, *arguments: Any) -> CmvnStats:
        made.append(real(self, *arguments))
        return made[-1]

    monkeypatch.setattr(Recogniser, "feature_stats", counted)
    return made


def stopped(small_run: Path, audio: Path, out: Path, monkeypatch: pytest.MonkeyPatch, *more: Any) -> List[Path]:
    with monkeypatch.context() as patch:
        stop_after(patch, 7)
        assert run(small_run, audio, "--out", out, *more) == 130
    return sorted((out / "work" / "parts").iterdir())


def test_stopped_twice(small_run: Path, audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(small_run, audio, "--out", tmp_path / "whole") == 0
    for _ in range(2):
        lines = read_jsonl(stopped(small_run, audio, tmp_path / "o", monkeypatch)[0])
    assert len(lines) > 12, "the second run went further than the first"
    assert run(small_run, audio, "--out", tmp_path / "o") == 0
    assert outputs(tmp_path / "o") == outputs(tmp_path / "whole")


def tear(lines: Path, state: Path) -> None:
    with open(lines, "ab") as stream:
        stream.write(b'{"text": "half a l')


def lose_lines(lines: Path, state: Path) -> None:
    lines.write_bytes(b"".join(lines.read_bytes().splitlines(True)[:3]))


def lose_state(lines: Path, state: Path) -> None:
    state.unlink()


def break_state(lines: Path, state: Path) -> None:
    state.write_bytes(b"no tensors")


def empty_lines(lines: Path, state: Path) -> None:
    lines.write_bytes(b"")


@pytest.mark.parametrize(
    "damage, says",
    [
        (tear, "goes on at"), (lose_state, ""), (lose_lines, "damaged"), (break_state, "damaged"),
        (empty_lines, "damaged"),
    ],
)  # fmt: skip
def test_what_a_kill_or_a_bad_disk_leaves(
    small_run: Path, audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any,
    damage: Callable[[Path, Path], None], says: str,
) -> None:  # fmt: skip
    assert run(small_run, audio, "--out", tmp_path / "whole") == 0
    damage(*stopped(small_run, audio, tmp_path / "o", monkeypatch))
    capsys.readouterr()
    assert run(small_run, audio, "--out", tmp_path / "o") == 0
    said = capsys.readouterr().err
    assert says in said and ("goes on" in said) == (damage is tear)
    assert outputs(tmp_path / "o") == outputs(tmp_path / "whole")


@pytest.mark.parametrize("change", ["options", "audio", "model"])
def test_what_has_changed_is_done_anew_and_said(
    small_copy: Path, audio: Path, samples: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any,
    change: str,
) -> None:  # fmt: skip
    """Within a recording, and of one that was done."""
    more: List[Any] = []
    other = tmp_path / "other.wav"
    soundfile.write(other, samples[: 5 * RATE], RATE)
    for name in ("o", "p"):
        stopped(small_copy, audio, tmp_path / name, monkeypatch)
        assert run(small_copy, other, "--out", tmp_path / name) == 0
    if change == "options":
        more = ["--nbest", 2]
    elif change == "audio":
        soundfile.write(audio, samples[::-1], RATE)
        soundfile.write(other, samples[4 * RATE :: -1], RATE)
    else:
        (small_copy / "lang" / "note").write_text("another")
    capsys.readouterr()
    assert run(small_copy, audio, other, "--out", tmp_path / "o", *more) == 0
    said = capsys.readouterr()
    assert f"long is transcribed anew from its beginning: the {change} " in said.err and "goes on" not in said.err
    assert f"transcribed anew: other: the {change} " in said.out
    assert run(small_copy, audio, other, "--out", tmp_path / "whole", *more) == 0
    assert outputs(tmp_path / "o") == outputs(tmp_path / "whole")


def test_short_recordings_leave_nothing(
    small_run: Path, audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "LONG", 60.0)
    with monkeypatch.context() as patch:
        stop_after(patch, 7)
        assert run(small_run, audio, "--out", tmp_path / "o") == 130
    assert not (tmp_path / "o" / "work" / "parts").exists()


KILLED = """
import sys
from hybrid.transcribe import parts
from hybrid.decode.segments import Endpointing, Rule
parts.LONG, parts.EVERY = 1.0, 0.0
Endpointing.rules = (Rule(False, 0.0, utterance_length=1.5),)
from hybrid.decode.recording import RecordingDecoder
real = RecordingDecoder.__iter__
def slow(self):
    import time
    for result in real(self):
        yield result
        time.sleep(0.1)
RecordingDecoder.__iter__ = slow
from hybrid.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_killed(small_run: Path, audio: Path, tmp_path: Path, capsys: Any) -> None:
    """By SIGKILL, as it writes."""
    out = tmp_path / "o"
    arguments = ["transcribe", str(small_run), str(audio), "--out", str(out), "--jobs", "1", "--format", FORMATS]
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, *arguments], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    end = time.monotonic() + 120
    while not list((out / "work").glob("parts/*.safetensors")) or count(out) < 5:
        assert process.poll() is None and time.monotonic() < end, (process.stderr or sys.stderr).read()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL
    assert not (out / "text").exists()
    assert run(small_run, audio, "--out", out) == 0
    assert "long: goes on at" in capsys.readouterr().err
    assert run(small_run, audio, "--out", tmp_path / "whole") == 0
    assert outputs(out) == outputs(tmp_path / "whole")


def count(out: Path) -> int:
    return sum(len(path.read_bytes().splitlines()) for path in (out / "work" / "parts").glob("*.jsonl"))
