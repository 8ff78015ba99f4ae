"""AN4: the real corpus as published, its archive fetched from a server of our own, hostile archives refused."""

from __future__ import annotations

import io
import tarfile
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from test_audio import tone, write_sphere

from hybrid.corpus import choose_speakers
from hybrid.errors import DataError
from hybrid.io import Problems
from hybrid.recipes.an4 import download
from hybrid.recipes.an4.download import FINGERPRINT, download_an4, fingerprint
from hybrid.recipes.an4.prepare import find_an4, prepare_an4

TRAIN = {"fash": ["YES", "GO"], "mblb": ["RUBOUT", "HELP"], "mcen": ["A B", "C"]}
TEST = {"fcaw": ["STOP", "ENTER NINE"]}


def make_an4(root: Path, train=TRAIN, test=TEST) -> Path:
    """A little corpus in AN4's layout; utterance n of speaker s is `ann-s-b`."""
    for name, folder, speakers in (("train", "an4_clstk", train), ("test", "an4test_clstk", test)):
        lines, ids = [], []
        for speaker, texts in speakers.items():
            place = root / "wav" / folder / speaker
            place.mkdir(parents=True)
            for number, text in enumerate(texts):
                identifier = f"an{number}-{speaker}-b"
                write_sphere(place / f"{identifier}.sph", tone(0.5, hertz=300 + 50 * number))
                lines.append(f"{text} ({identifier})" if name == "train" else f"<s> {text} </s> ({identifier})")
                ids.append(f"{folder}/{speaker}/{identifier}")
        etc = root / "etc"
        etc.mkdir(exist_ok=True)
        (etc / f"an4_{name}.transcription").write_text("\n".join(lines) + "\n")
        (etc / f"an4_{name}.fileids").write_text("\n".join(ids) + "\n")
    (root / "etc" / "an4.dic").write_text("YES  Y EH S\n")
    return root


# ------------------------------------------------------------------ the real corpus


def test_the_corpus_as_published(shared_data, tmp_path):
    problems = Problems(tmp_path / "problems.jsonl", "prepare")
    said: list[str] = []
    sets = prepare_an4(shared_data, problems, log=said.append)
    assert problems.rows == [] and said == []
    people = {name: {cut.supervisions[0].speaker for cut in cuts} for name, cuts in sets.items()}
    assert len(sets["train"]) + len(sets["dev"]) == 948
    assert len(people["train"] | people["dev"]) == 74
    assert len(people["dev"]) == 8 and 90 <= len(sets["dev"]) <= 115
    assert not people["train"] & people["dev"] and not people["test"] & (people["train"] | people["dev"])
    assert (len(sets["test"]), len(people["test"])) == (130, 10)
    assert sum(len(cut.supervisions[0].text.split()) for cut in sets["test"]) == 773
    share = {name: Counter(speaker[0] for speaker in people[name]) for name in ("train", "dev")}
    assert share["dev"]["f"] == round(8 * (share["train"]["f"] + share["dev"]["f"]) / 74)
    minutes = sum(cut.duration for name in ("train", "dev") for cut in sets[name]) / 60
    assert round(minutes, 1) == 42.4
    for cuts in sets.values():
        for cut in cuts:
            (supervision,) = cut.supervisions
            assert cut.id == supervision.id == cut.recording.id
            assert f"/{supervision.speaker}/" in cut.recording.sources[0].source
            assert "<" not in supervision.text and cut.sampling_rate == 16000
    assert {cut.id: cut.supervisions[0].text for cut in sets["test"]}["an406-fcaw-b"] == "RUBOUT G M E F THREE NINE"
    again = prepare_an4(shared_data / "an4")
    assert [cut.id for cut in again["dev"]] == [cut.id for cut in sets["dev"]]


def test_fingerprint_of_the_real_corpus(shared_data):
    assert fingerprint(shared_data / "an4") == FINGERPRINT


# ------------------------------------------------------------------ a little one


def test_little_corpus(tmp_path):
    make_an4(tmp_path / "an4")
    said: list[str] = []
    sets = prepare_an4(tmp_path, num_dev_speakers=1, log=said.append)
    assert {name: len(cuts) for name, cuts in sets.items()} == {"train": 4, "dev": 2, "test": 2}
    assert sorted(cut.supervisions[0].text for cut in sets["test"]) == ["ENTER NINE", "STOP"]
    assert said == [
        "6 utterances where CMU's archive has 948",
        "2 utterances where CMU's archive has 130",
    ]


def test_held_out_speakers(tmp_path):
    speakers = {f"{'fm'[number % 3 > 0]}{number:03d}": ["YES"] for number in range(12)}
    make_an4(tmp_path, train=speakers)
    dev = {}
    for seed in range(5):
        sets = prepare_an4(tmp_path, num_dev_speakers=3, seed=seed)
        people = sorted(cut.supervisions[0].speaker for cut in sets["dev"])
        assert [name[0] for name in people] == ["f", "m", "m"]
        dev[seed] = people
    assert len({tuple(people) for people in dev.values()}) > 1
    for number in (0, 12, -1):
        with pytest.raises(DataError, match="cannot be held out"):
            choose_speakers(speakers, number)
    for number in (1, 5, 11):
        held = choose_speakers(reversed(list(speakers)), number, seed=2)
        assert len(held) == number and held < set(speakers) and held == choose_speakers(speakers, number, seed=2)


# ------------------------------------------------------------------ the archive


def pack(folder: Path, archive: Path) -> bytes:
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, "an4")
    return archive.read_bytes()


class Server:
    """Serves one body on the loopback; `cut` breaks the first answer off after so many bytes."""

    def __init__(self, body: bytes, cut: int | None = None, ranges: bool = True, status: int = 200) -> None:
        self.asked: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                outer.asked.append(wanted)
                if status != 200:
                    self.send_error(status)
                    return
                begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and ranges else 0
                if begin >= len(body):
                    self.send_error(416)
                    return
                rest = body[begin:]
                self.send_response(206 if begin else 200)
                self.send_header("Content-Length", str(len(rest)))
                self.end_headers()
                self.wfile.write(rest[:cut] if cut is not None and len(outer.asked) == 1 else rest)

            def log_message(self, *arguments) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/an4_sphere.tar.gz"

    def __enter__(self) -> Server:
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()
        return self

    def __exit__(self, *arguments) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def little(tmp_path):
    """(the archive's bytes, the fingerprint of what is in it)."""
    folder = make_an4(tmp_path / "source" / "an4")
    return pack(folder, tmp_path / "source" / "an4.tar.gz"), fingerprint(folder)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


def quiet(line: str) -> None:
    pass


def test_download_and_again(tmp_path, little):
    body, expected = little
    with Server(body) as server:
        folder = download_an4(tmp_path / "data", server.url, expected=expected, log=quiet)
        assert folder == tmp_path / "data" / "an4"
        assert fingerprint(find_an4(tmp_path / "data")) == expected
        assert len(prepare_an4(tmp_path / "data", num_dev_speakers=1)["test"]) == 2
        download_an4(tmp_path / "data", server.url, expected=expected, log=quiet)
        assert len(server.asked) == 1
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["an4", "an4_sphere.tar.gz"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_transfer_goes_on(tmp_path, little, ranges):
    body, expected = little
    with Server(body, cut=1000, ranges=ranges) as server:
        with pytest.raises(DataError, match="broke off"):
            download_an4(tmp_path, server.url, expected=expected, log=quiet)
        assert not (tmp_path / "an4").exists() and not (tmp_path / "an4_sphere.tar.gz").exists()
        download_an4(tmp_path, server.url, expected=expected, log=quiet)
        assert server.asked == [None, "bytes=1000-"]
    assert (tmp_path / "an4_sphere.tar.gz").read_bytes() == body


def test_killed_between_transfer_and_rename(tmp_path, little):
    body, expected = little
    (tmp_path / "an4_sphere.tar.gz.part").write_bytes(body)
    with Server(body) as server:
        download_an4(tmp_path, server.url, expected=expected, log=quiet)
        assert server.asked[0] == f"bytes={len(body)}-"  # it looks whether more is there
    assert fingerprint(find_an4(tmp_path)) == expected
    assert (tmp_path / "an4_sphere.tar.gz").read_bytes() == body and not list(tmp_path.glob("*.part"))


def test_from_a_file_and_by_hand(tmp_path, little):
    body, expected = little
    url = (tmp_path / "source" / "an4.tar.gz").as_uri()
    download_an4(tmp_path / "one", url, expected=expected, log=quiet)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "an4_sphere.tar.gz").write_bytes(body)
    download_an4(tmp_path / "two", "http://127.0.0.1:1/none", expected=expected, log=quiet)
    for name in ("one", "two"):
        assert fingerprint(find_an4(tmp_path / name)) == expected


def test_other_contents(tmp_path, little):
    with Server(little[0]) as server:
        with pytest.raises(DataError, match="not AN4 as CMU publishes it.*8 recordings"):
            download_an4(tmp_path / "data", server.url, log=quiet)
    assert not (tmp_path / "data" / "an4").exists()


@pytest.mark.parametrize(
    "url, what",
    [
        ("http://127.0.0.1:1/an4.tar.gz", "cannot be reached"),
        ("http://no-such-host.invalid/an4.tar.gz", "cannot be reached"),
        ("file:///no/such/an4.tar.gz", "cannot be reached"),
        ("an4.tar.gz", "not an address"),
    ],
)
def test_no_network(tmp_path, url, what):
    with pytest.raises(DataError, match=what) as caught:
        download_an4(tmp_path, url, log=quiet, timeout=5)
    assert caught.value.remedy
    if what == "cannot be reached":
        assert "speech.cs.cmu.edu" in str(caught.value)


def test_server_says_no(tmp_path):
    with Server(b"", status=404) as server, pytest.raises(DataError, match="404"):
        download_an4(tmp_path, server.url, log=quiet)


def test_command_prints_the_message_alone(tmp_path, capsys):
    assert download.main([str(tmp_path), "--url", "http://127.0.0.1:1/an4.tar.gz"]) == 1
    assert "Remedy" in capsys.readouterr().err


def hostile(**fields) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        entry = tarfile.TarInfo("an4/etc/ok")
        tar.addfile(entry)
        entry = tarfile.TarInfo(fields.pop("name"))
        for name, value in fields.items():
            setattr(entry, name, value)
        tar.addfile(entry, io.BytesIO(b"x" * entry.size))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "body, what",
    [
        (hostile(name="../escaped", size=3), "outside its folder"),
        (hostile(name="an4/../../escaped", size=3), "outside its folder"),
        (hostile(name="/tmp/escaped", size=3), "outside its folder"),
        (hostile(name="an4\\..\\escaped", size=3), "outside its folder"),
        (hostile(name="an4/link", type=tarfile.SYMTYPE, linkname="/etc"), "link or device"),
        (hostile(name="an4/link", type=tarfile.LNKTYPE, linkname="../x"), "link or device"),
        (hostile(name="an4/device", type=tarfile.CHRTYPE), "link or device"),
        (hostile(name="an4/big", size=5000), "more than 4000 bytes"),
        (b"<html>moved</html>" * 100, "broken"),
        (hostile(name="an4/x", size=3000)[:-40], "broken"),
        (b"", "broken"),
    ],
    # an archive holds the time when it was made, and must not stand in the name of its test
    ids="up inside-up absolute backslash symlink hardlink device big html cut empty".split(),
)
def test_hostile_and_broken_archives(tmp_path, monkeypatch, body, what):
    monkeypatch.setattr(download, "MAX_BYTES", 4000)
    data = tmp_path / "data"
    data.mkdir()
    (data / "an4_sphere.tar.gz").write_bytes(body)
    with pytest.raises(DataError, match=what):
        download_an4(data, expected=None, log=quiet)
    assert [path.name for path in data.iterdir()] == ["an4_sphere.tar.gz"]
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_sphere_helper_is_what_cmu_writes(shared_data, tmp_path):
    """The generated files of these tests have the header of the real ones."""
    real = next((shared_data / "an4" / "wav").rglob("*.sph")).read_bytes()
    write_sphere(tmp_path / "a.sph", np.zeros(10))
    ours = (tmp_path / "a.sph").read_bytes()
    fields = {line.split()[0] for line in ours[:1024].decode().splitlines()[2:] if len(line.split()) == 3}
    theirs = {line.split()[0] for line in real[:1024].decode().splitlines()[2:] if len(line.split()) == 3}
    assert fields <= theirs
