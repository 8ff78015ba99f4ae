"""Stage gmm: monophones from a flat start, triphones on deltas, on LDA and MLLT, and adapted to speakers."""

from __future__ import annotations

from functools import partial
from typing import Dict, Iterator, Sequence

from hybrid.data.arrays import iterate_arrays
from hybrid.device import for_workers
from hybrid.gmm.align import AlignOptions
from hybrid.gmm.bootstrap import BootstrapOptions, StepOptions, train_steps
from hybrid.gmm.chunks import Data
from hybrid.gmm.model import GmmModel
from hybrid.gmm.records import learn_probs, rows
from hybrid.gmm.store import Store, StoredUtterance
from hybrid.io import Problems, write_jsonl
from hybrid.lexicon.lang import Lang
from hybrid.pipeline.features import read_feature_config, read_online_cmvn
from hybrid.pipeline.recipe_run import RecipeRun
from hybrid.pipeline.sets import feature_folder, set_list
from hybrid.pipeline.systems import GMM_STEPS, gmm_steps


def bootstrap_options(run: RecipeRun) -> BootstrapOptions:
    """Return the options of the training steps, as the section gmm has them."""
    settings = run.settings.gmm
    steps = {"mono": StepOptions(settings.mono.passes, settings.mono.gaussians)}
    for name in GMM_STEPS[1:]:
        section = getattr(settings, name)
        steps[name] = StepOptions(section.passes, section.gaussians, section.leaves, section.threshold)
    return BootstrapOptions(
        steps,
        AlignOptions(beam=settings.beam, retry_beam=settings.retry_beam),
        settings.boost_silence,
        settings.splice,
        settings.lda_dim,
    )


def open_store(run: RecipeRun, stage: str, names: Sequence[str]) -> Store:
    """Return the store of the cepstra of some sets, EXP/STAGE/store/NAME (NAME: the first of them); it is made where
    it is not there yet."""
    folder = run.dir(stage) / "store" / names[0]
    if (folder / "store.json").exists():
        return Store.open(folder)
    return Store.create(folder, partial(_items, run, names), variance=run.settings.gmm.variance_normalisation)


def _items(run: RecipeRun, names: Sequence[str]) -> Iterator[StoredUtterance]:
    for name in names:
        # A speaker at another speed is another speaker, as in Kaldi's perturb_data_dir_speed.sh.
        mark = "".join(f"-{part}" for part in name.split("_") if part.startswith("sp"))
        for cut, arrays in iterate_arrays(feature_folder(run, name, "mfcc"), "mfcc"):
            supervision = cut.supervisions[0]
            yield StoredUtterance(cut.id, supervision.speaker + mark, supervision.text, arrays["mfcc"])


def gmm(run: RecipeRun) -> None:
    """Write EXP/gmm/{mono,tri1,tri2,tri3}: model folders, passes.jsonl, occupancy.json, and the state to resume from;
    EXP/gmm/lang where probabilities are learnt; EXP/gmm/alignments.jsonl.gz of the last system."""
    settings = run.settings.gmm
    systems = gmm_steps(run.settings)
    lang = Lang.load(run.dir("lang"))
    options = bootstrap_options(run)
    store = open_store(run, "gmm", set_list(run).clean if settings.speeds else ["train"])
    problems = run.problems("gmm")
    features = {
        "mfcc": read_feature_config(run, "mfcc"),
        "cmvn": {"per": "speaker", "variance": settings.variance_normalisation},
        "online_cmvn": read_online_cmvn(run, "mfcc"),
    }
    with run.executor() as executor:

        def relearn(model: GmmModel, data: Data, lang: Lang) -> Lang:
            learnt_lang = learn_probs(data, model.senones, lang, executor, silence=settings.learn_probs == "both")
            learnt_lang.save(run.dir("gmm") / "lang")
            return learnt_lang

        def check(reasons: Dict[str, str]) -> None:
            """Stop the stage before it trains, where more utterances are unusable than may be."""
            early_problems = run.problems("gmm")
            for identifier in sorted(reasons):
                early_problems.add(identifier, reasons[identifier])
            early_problems.close(store.utterances, run.settings.limits.problems)

        steps = train_steps(
            store, lang, options, run.dir("gmm"), features=features, seed=run.seed, executor=executor, log=run.log,
            progress=run.progress, device=for_workers(run.device(settings.device)), systems=systems,
            relearn=None if settings.learn_probs == "none" else relearn, check=check,
        )  # fmt: skip
        last_model = steps.models[systems[-1]]
        write_jsonl(run.dir("gmm") / "alignments.jsonl.gz", rows(steps.data, last_model.senones, lang, executor))
    report_unusable(problems, steps.unusable, steps.data)
    problems.close(store.utterances, run.settings.limits.problems)


def report_unusable(problems: Problems, reasons: Dict[str, str], data: Data) -> None:
    """Add to `problems` the utterances without a graph, and those that have one and are not aligned."""
    for identifier in sorted(reasons):
        problems.add(identifier, reasons[identifier])
    for index in range(data.store.num_chunks):
        alignments = data.aligned(index)
        for number, identifier in enumerate(data.store.about(index)["ids"]):
            if not alignments.lengths[number] and identifier not in reasons:
                problems.add(identifier, alignments.reason(number))


def lang_of(run: RecipeRun, system: str) -> Lang:
    """Return the lexicon that a system is used with: with the probabilities learnt for it, where there are any."""
    if system not in GMM_STEPS[:-1] and run.may_read("gmm"):  # there are no Gaussians where networks start flat
        folder = run.dir("gmm") / "lang"
        if (folder / "config.json").exists():
            return Lang.load(folder)
    return Lang.load(run.dir("lang"))


def load(run: RecipeRun, system: str) -> GmmModel:
    return GmmModel.load(run.dir("gmm") / system)

