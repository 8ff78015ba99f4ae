"""Alignment of any set with a finished system: with and without speakers' transforms, failures named."""

from __future__ import annotations

from dataclasses import replace

import gmm_tools
import numpy as np
import pytest

from hybrid.gmm.align import AlignOptions
from hybrid.gmm.apply import align_store
from hybrid.gmm.chunks import load_transforms
from hybrid.gmm.diag import DiagGmms
from hybrid.gmm.feature_transform import FeatureTransform
from hybrid.gmm.fmllr import compose
from hybrid.gmm.model import GmmModel
from hybrid.hmm.alignment import phone_segments

LANG = gmm_tools.make_lang()
SPEAKERS = 2
VOICES = gmm_tools.distortions(SPEAKERS, 0.3)


def _model(adapted):
    """The Gaussians that `gmm_tools.speech` draws its frames from; wider ones where speakers are not known."""
    senones = gmm_tools.make_senones(LANG)
    points = np.random.default_rng(0).normal(0, 3.0, (senones.num_pdfs, gmm_tools.DIM))
    gmms, wide = (DiagGmms.single(points, np.full_like(points, v)) for v in (1.0, 4.0))
    return GmmModel(senones, gmms, FeatureTransform.splice(gmm_tools.DIM, 0, 0), wide if adapted else None)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    items = gmm_tools.speech(LANG, 60, speakers=SPEAKERS, distort=0.3)
    items[4] = items[4]._replace(text="AB NOWORD")
    items[9] = items[9]._replace(features=items[9].features[:3])
    made = gmm_tools.make_store(tmp_path_factory.mktemp("store"), items, 1500)
    assert made.num_chunks > 1
    return made


def _align(model, store, folder, **more):
    return align_store(model, store, LANG, AlignOptions(), gmm_tools.quiet(folder), **more)


def test_a_system_that_knows_no_speakers_aligns_once(store, tmp_path):
    data, reasons = _align(_model(False), store, tmp_path)
    assert data.transforms is None
    assert sorted(reasons) == ["u004", "u009"]
    assert "NOWORD" in reasons["u004"] and "too short" in reasons["u009"]
    found = gmm_tools.alignments(data)
    assert sorted(name for name, tids in found.items() if tids is None) == ["u004", "u009"]


def test_an_adapted_system_undoes_what_the_speakers_do(store, tmp_path):
    model = _model(True)
    data, _ = _align(model, store, tmp_path / "adapted")
    plain, _ = _align(replace(model, speaker_independent=None, gmms=model.first_pass), store, tmp_path / "plain")
    likes = []
    for one in (plain, data):
        parts = [one.aligned(index) for index in range(store.num_chunks)]
        frames = sum(part.lengths.sum() for part in parts)
        likes.append(sum(float(part.loglike @ part.lengths) for part in parts) / frames)
    assert likes[1] > likes[0] + 0.5
    for index in range(store.num_chunks):
        for speaker, transform in load_transforms(data.transforms, index).items():
            both = compose(transform.astype(float), VOICES[int(speaker[1:])])
            # The mean was taken off before, so the offset is another one.
            np.testing.assert_allclose(both[:, :-1], np.eye(gmm_tools.DIM), atol=0.15)


def test_words_are_where_they_were_said(store, tmp_path):
    model = _model(True)
    data, _ = _align(model, store, tmp_path)
    texts = {name: text for i in range(store.num_chunks)
             for name, text in zip(store.about(i)["ids"], store.about(i)["texts"])}
    found = {name: tids for name, tids in gmm_tools.alignments(data).items() if tids is not None}
    assert len(found) > 0.9 * len(texts) > 0
    for name, tids in found.items():
        phones, _ = phone_segments(tids, model.senones)
        heard = "".join(LANG.phone_names[p] for p in phones.tolist() if p not in LANG.silence_ids)
        spelled = [""]
        for word in texts[name].split():
            spelled = [one + how.replace(" ", "") for one in spelled for how in gmm_tools.WORDS[word]]
        assert heard in spelled


def test_silence_that_is_boosted_gets_more_frames(store, tmp_path):
    model = _model(False)
    model.gmms.variances[:] = 30.0  # so unsure that the boost decides
    model = replace(model, gmms=replace(model.gmms))
    silent = np.isin(model.senones.tid2phone, LANG.silence_ids)
    counts = []
    for boost in (1.0, 1e6):
        data, _ = _align(model, store, tmp_path / str(boost), boost_silence=boost)
        counts.append(sum(int(silent[tids].sum()) for tids in gmm_tools.alignments(data).values() if tids is not None))
    assert counts[1] > counts[0]
