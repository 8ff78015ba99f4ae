"""A Gaussian system on disk: what a folder brings back, folders that are broken, silence boosted for alignment."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import gmm_tools
import numpy as np
import pytest

from hybrid.errors import HybridError, ModelError
from hybrid.gmm.diag import DiagGmms
from hybrid.gmm.feature_transform import FeatureTransform
from hybrid.gmm.model import GmmModel, boosted
from hybrid.hmm.senones import Senones
from hybrid.hmm.topology import bootstrap_topology
from hybrid.hmm.tree import Leaf, Table, Tree
from hybrid.io import load_tensors, save_tensors

LANG = gmm_tools.make_lang()
SILENT = LANG.silence_ids
FRAMES = np.random.default_rng(1).normal(size=(9, gmm_tools.DIM)).astype(np.float32)


def _model(adapted=False):
    """Mixtures of two Gaussians, a feature transform of four neighbours, some transitions."""
    rng = np.random.default_rng(0)
    senones = gmm_tools.make_senones(LANG)
    senones.update_transitions(np.r_[0.0, rng.integers(5, 50, senones.num_tids)])
    gmms = gmm_tools.random_gmms(rng, senones.num_pdfs, gmm_tools.DIM)
    independent = replace(gmms, means=gmms.means + 1)
    transform = FeatureTransform.splice(3, 2, 1).then(rng.normal(size=(gmm_tools.DIM, 12)))
    return GmmModel(senones, gmms, transform, independent if adapted else None)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "adapted"])
def saved(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("model")
    model = _model(adapted=request.param)
    model.save(folder, {"mfcc": {"num_ceps": 13}})
    return folder, model


def test_a_folder_brings_back_the_same_model(saved):
    folder, model = saved
    again = GmmModel.load(folder)
    x = FRAMES
    got = again.loglikes(x)
    np.testing.assert_array_equal(got, model.loglikes(x))
    assert (got.shape, got.dtype) == ((len(x), model.gmms.num_pdfs), np.float32)
    assert got.flags["C_CONTIGUOUS"]
    assert (again.feature_transform.left, again.feature_transform.right, again.adapted) == (2, 1, model.adapted)
    np.testing.assert_array_equal(again.feature_transform.matrix, model.feature_transform.matrix)
    np.testing.assert_array_equal(again.first_pass.means, model.first_pass.means)
    np.testing.assert_array_equal(again.senones.log_probs, model.senones.log_probs)
    assert (again.first_pass is again.gmms) == (not model.adapted)
    assert json.loads((folder / "features.json").read_text()) == {"mfcc": {"num_ceps": 13}}
    assert {path.name for path in folder.iterdir()} == {
        "senones", "model.safetensors", "features.json", "config.json"
    }


def _other_senones(folder):
    network = gmm_tools.make_senones(LANG, "network")
    network.save(folder / "senones")


def _json(name, value):
    return lambda folder: (folder / name).write_text(json.dumps(value))


def _tensors(change):
    def edit(folder):
        save_tensors(folder / "model.safetensors", change(load_tensors(folder / "model.safetensors")))

    return edit


def _wider(tensors):
    return {**tensors, "front.matrix": np.concatenate([tensors["front.matrix"]] * 2)}


BROKEN_MODELS = {
    "no folder": (shutil.rmtree, "config.json"),
    "no config": (lambda f: (f / "config.json").unlink(), "config.json"),
    "a network": (_json("config.json", {"kind": "lstm"}), "not a GMM"),
    "config a list": (_json("config.json", []), "not a GMM"),
    "config empty": (lambda f: (f / "config.json").write_text(""), "config.json"),
    "no mixtures": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors"),
    "mixtures cut off": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-5]),
        "model.safetensors",
    ),
    "mixtures of something else": (
        lambda f: save_tensors(f / "model.safetensors", {"x": np.zeros(2)}), "model.safetensors"
    ),
    "no feature transform": (
        _tensors(lambda t: {k: v for k, v in t.items() if not k.startswith("front")}), "model.safetensors"
    ),
    "feature transform of another run": (_tensors(_wider), "dimensions"),
    "no senones": (lambda f: shutil.rmtree(f / "senones"), "senones"),
    "senones of another run": (_other_senones, "mixtures for .* pdfs"),
}


@pytest.mark.parametrize("change, what", BROKEN_MODELS.values(), ids=BROKEN_MODELS.keys())
def test_a_broken_folder_is_refused_with_its_name_and_a_remedy(tmp_path, saved, change, what):
    folder = tmp_path / "model"
    shutil.copytree(saved[0], folder)
    change(folder)
    with pytest.raises(HybridError, match=what) as caught:
        GmmModel.load(folder)
    assert str(folder) in str(caught.value)
    assert caught.value.remedy


def test_an_adapted_system_without_its_second_mixtures_is_refused(tmp_path):
    _model(adapted=True).save(tmp_path)
    _tensors(lambda t: {k: v for k, v in t.items() if not k.startswith("independent")})(tmp_path)
    with pytest.raises(ModelError, match="model.safetensors") as caught:
        GmmModel.load(tmp_path)
    assert caught.value.remedy


def test_second_mixtures_of_other_sizes_are_refused(tmp_path):
    """Posteriors of the one are taken for the Gaussians of the other."""
    model = _model()
    other = gmm_tools.random_gmms(np.random.default_rng(7), model.gmms.num_pdfs, gmm_tools.DIM)
    replace(model, speaker_independent=other).save(tmp_path)
    with pytest.raises(ModelError, match="numbers of Gaussians") as caught:
        GmmModel.load(tmp_path)
    assert str(tmp_path) in str(caught.value) and caught.value.remedy


# -- silence ----------------------------------------------------------------------------------------------------------


def test_silence_is_made_more_likely_for_alignment_alone():
    model = _model()
    x = FRAMES
    silent = np.unique(model.senones.tid2pdf[1:][np.isin(model.senones.tid2phone[1:], SILENT)])
    before, after = model.gmms.loglikes(x), boosted(model.gmms, model.senones, SILENT, 3.0).loglikes(x)
    is_silent = np.isin(np.arange(model.gmms.num_pdfs), silent)
    np.testing.assert_allclose(after[is_silent], before[is_silent] + np.log(3.0), rtol=1e-5)
    np.testing.assert_array_equal(after[~is_silent], before[~is_silent])
    assert boosted(model.gmms, model.senones, SILENT, 1.0) is model.gmms
    assert boosted(model.gmms, model.senones, [], 3.0) is model.gmms


def test_a_pdf_that_silence_shares_with_a_phone_is_not_boosted():
    topology = bootstrap_topology([2], [1], num_silence_states=3)
    shared = Table(-1, [Leaf(0), Leaf(1), Leaf(2)])
    senones = Senones(topology, Tree(Table(0, [None, shared, shared]), 1, 0), {"s": 1, "a": 2})
    gmms = DiagGmms.single(np.zeros((3, 2)), np.ones((3, 2)))
    assert boosted(gmms, senones, [1], 5.0).weights.tolist() == [1, 1, 1]
