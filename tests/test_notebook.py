"""The front door as a notebook uses it: run a recipe, read its numbers, recognise a file, align a corpus."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from corpora import an4_utterances, write_kaldi

import hybrid

pytestmark = pytest.mark.slow

QUICK = {
    "run.jobs": 1, "decode.systems": ["mono"], "gmm.last": "mono", "gmm.mono.passes": 8,
    "gmm.mono.gaussians": 200, "augment.speeds": [], "decode.gmm.scales": [0.0833], "decode.gmm.penalties": [0.0],
}  # fmt: skip


def test_the_notebook(shared_data: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    train, test = an4_utterances(shared_data, "train"), an4_utterances(shared_data, "test")
    speakers = sorted({one.speaker for one in train})[:6]
    write_kaldi(tmp_path / "train", [one for one in train if one.speaker in speakers])
    spoken = [one for one in test if one.speaker == test[0].speaker]
    write_kaldi(tmp_path / "test", spoken)
    lexicon = shared_data / "an4" / "etc" / "an4.dic"
    Path("my.toml").write_text(
        f'[corpus]\ntrain = "train"\ntest = "test"\ndev_speakers = 2\nlexicon = {json.dumps(str(lexicon))}\n'
    )

    run = hybrid.run("my.toml", set=QUICK)
    assert run.exp == Path("exp/my") and run.config["gmm.mono.passes"] == 8
    (row,) = [row for row in run.results if row["set"] == "test"]
    assert run.wer("mono") == row["wer"] < 80 and row["words"] == sum(len(one.text.split()) for one in spoken)
    assert f"{row['wer']:.2f}" in run.table()
    with pytest.raises(hybrid.HybridError, match="no result of tri1"):
        run.wer("tri1")

    asr = hybrid.load("exp/my", system="mono")
    one = max(spoken, key=lambda one: one.samples)
    result = asr(one.audio)
    assert result.text.split() == [word.word for word in result.words] and result.text
    assert result.to_dict()["text"] == result.text and json.dumps(result.to_dict())
    assert hybrid.open_run("exp/my").load("mono")(one.audio).text == result.text

    with pytest.raises(hybrid.HybridError, match="no run in this folder"):
        hybrid.open_run(tmp_path)
    with pytest.raises(hybrid.HybridError, match="gmm.mono.pases"):
        hybrid.run("my.toml", set={"gmm.mono.pases": 3})

    aligned = hybrid.align("test", str(lexicon), "aligned", model="exp/my", jobs=1)
    assert len(aligned.utterances) + len(aligned.skipped) == len(spoken) and Path("aligned/words.ctm").is_file()
