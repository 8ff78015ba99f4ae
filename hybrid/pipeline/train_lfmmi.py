"""Networks trained with LF-MMI (stages lfmmi, teacher_lfmmi, student_lfmmi), from another or from random parameters."""

from __future__ import annotations

from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Iterator, List, Tuple, Union

import numpy as np
import torch

from hybrid.errors import ConfigError, ModelError
from hybrid.lexicon.lang import Lang
from hybrid.nnet.base import AcousticModel
from hybrid.nnet.model_io import build_model, load_model, load_state
from hybrid.nnet.priors import priors_of_model
from hybrid.pipeline.network import data_sets, fit, network_seed, new_model, save, speech
from hybrid.pipeline.numerators import Supervised, numerator_maker, with_numerators
from hybrid.pipeline.phones import drawn, phones_of_pdfs, spoken
from hybrid.pipeline.recipe_run import RecipeRun
from hybrid.pipeline.senones import network_senones
from hybrid.pipeline.sets import set_list
from hybrid.pipeline.soft_data import SoftSpeech, untranscribed
from hybrid.pipeline.soft_targets import read_soft, teacher_of
from hybrid.pipeline.speech import JoinedSpeech, Speech
from hybrid.pipeline.systems import System, is_aligned
from hybrid.train.denominator import describe
from hybrid.train.lfmmi import LfMmi
from hybrid.train.phone_lm import save_phone_lm, train_phone_lm
from hybrid.train.sequence_student import SequenceStudent
from hybrid.train.trainer import Criterion, epoch_file


def train_lfmmi(run: RecipeRun, system: System) -> None:
    """Write EXP/SYSTEM/model, phone_lm.json, denominator.safetensors."""
    settings = getattr(run.settings, system.name)
    senones = network_senones(run)
    lang = Lang.load(run.dir("lang"))
    names, dev_names = data_sets(run, system)
    train, dev = speech(run, names), speech(run, dev_names)
    sequences = PhoneSequences(run, lang, train, settings.lm_words)
    phone_lm = train_phone_lm(sequences, phones=lang.phone_ids, **asdict(settings.phone_lm))
    save_phone_lm(run.dir(system.name) / "phone_lm.json", phone_lm)
    make = numerator_maker(run, lang, phone_lm, senones, system.name)
    denominator = make.denominator()
    denominator.save(run.dir(system.name) / "denominator.safetensors")
    run.log(f"  denominator: {describe(denominator)}")
    problems = run.problems(system.name)
    data: Union[Supervised, JoinedSpeech] = with_numerators(run, train, make, problems)
    supervised_dev = with_numerators(run, dev, make, problems)
    problems.close(len(train) + len(dev), run.settings.limits.problems)
    phones = phones_of_pdfs(senones, lang)
    criterion = LfMmi(denominator, senones.num_pdfs, phones=phones, **asdict(settings.criterion))
    xent_head = settings.criterion.xent_regularize > 0
    start = system.init_from(run.settings)
    if start:
        model = start_from_frames(
            run.dir(start), xent_head, settings.dropout, epoch=settings.init_epoch, scale=settings.init_scale
        )
    elif settings.init_from == "flat":
        model = new_model(run, system, data, senones.num_pdfs, xent_head=xent_head, dropout=settings.dropout)
    else:
        model = start_from_model(
            Path(settings.init_from), xent_head, settings.dropout, data.dim, senones.num_pdfs
        )
    full_criterion: Criterion = criterion
    if getattr(settings, "soft", 0.0):
        data = JoinedSpeech([data, occupied(run, system)])
        full_criterion = SequenceStudent(criterion, settings.soft)
    fit(run, system, model, full_criterion, data, supervised_dev)
    save(run, system, model, senones, None)


class PhoneSequences:
    """What the phone LM is trained on: items() yields (name, phones) anew whenever it is called, one at a time.

    The phones are those of the alignments of the clean sets of `train`, or without alignments of what its transcripts
    can be spoken as; then those of sentences drawn from the decoding LM, of `words` words.
    """

    def __init__(self, run: RecipeRun, lang: Lang, train: Speech, words: int) -> None:
        self.lang, self.train, self.seed = lang, train, network_seed(run)
        self.aligned = is_aligned(run.settings)
        self.drawn = drawn(run, lang, words, self.seed) if words else {}

    def items(self) -> Iterator[Tuple[str, List[int]]]:
        return chain(self._aligned() if self.aligned else self._spoken(), self.drawn.items())

    def _aligned(self) -> Iterator[Tuple[str, List[int]]]:
        for alignments in self.train.cuts.alignments:
            for name, phones in alignments.sequences():
                yield name, phones.tolist()

    def _spoken(self) -> Iterator[Tuple[str, List[int]]]:
        texts = ((self.train.id(index), self.train.text_of(index)) for index in range(len(self.train)))
        return spoken(texts, self.lang, self.seed)


def occupied(run: RecipeRun, system: System) -> SoftSpeech:
    """Return the untranscribed utterances, with the teacher's occupancies; all pdfs -100, for there is no alignment."""
    names = set_list(run).unlabelled
    if not names:
        raise ConfigError(
            f"{system.name}.soft is above 0, and there is no untranscribed speech",
            remedy=f"set {system.name}.soft=0, or name some: corpus.unlabelled, or corpus.labelled below 1",
        )
    soft = read_soft(run, "occupancies", names)
    return untranscribed(run, system.name, soft, teacher_of(run, "occupancies")[0])


def start_from_frames(
    trained_in: Path, xent_head: bool, dropout: float, *, epoch: int = 0, scale: float = 1.0
) -> AcousticModel:
    """Return the network of a stage's folder, trained frame by frame, to be trained on per sequence.

    Where it has priors, its log posteriors are turned into log likelihoods: the log prior is taken off the output's
    bias. The denominator's phone LM brings in what is probable a priori; a posterior would count it twice. A student
    of a teacher that was itself trained per sequence has no priors: its outputs are such likelihoods as they are.
    The second head begins as a copy of the network's own. dropout: of the sequence training, which may need more of it:
    the network knows the training sentences by then. epoch: the network as it was after so many epochs; 0: the finished
    one. scale: of likelihoods made of posteriors. A CE network takes its frames for independent, which they are not: it
    decodes best with a scale of some 0.3, and MMI, which sums them up as they are, would begin from paths that are far
    too sure.
    """
    folder = trained_in / "model"
    trained, _ = load_model(folder)
    if epoch:
        path = epoch_file(trained_in, epoch - 1)
        if not path.exists():
            raise ConfigError(
                f"init_epoch is {epoch}, but the network after that epoch of {trained_in.name} was not kept",
                file=path,
                remedy=f"set {trained_in.name}.trainer.keep_every=1 and run the stage {trained_in.name} again, or set "
                "init_epoch to 0",
            )
        load_state(trained, path)
    model = _rebuilt(trained, xent_head, dropout)
    priors = priors_of_model(folder)
    if priors is not None:
        parameters = dict(model.named_parameters())
        weight, bias = parameters["output.weight"], parameters["output.bias"]
        with torch.no_grad():
            bias.sub_(torch.from_numpy(np.log(priors)).to(bias.dtype)).mul_(scale)
            weight.mul_(scale)
    return model


def start_from_model(folder: Path, xent_head: bool, dropout: float, input_dim: int, num_pdfs: int) -> AcousticModel:
    """Return the network of `folder` as it is: to train on, on other data or by another criterion, such as sMBR after
    MMI.

    Raises ModelError where it is of other features or senones.
    """
    trained, _ = load_model(folder)
    for name, expected in (("input_dim", input_dim), ("num_pdfs", num_pdfs)):
        size = getattr(trained.config, name)
        if size != expected:
            raise ModelError(
                f"{name} of this model is {size}, of this run {expected}", file=folder,
                remedy="start from a model of the same features and senones",
            )  # fmt: skip
    return _rebuilt(trained, xent_head, dropout)


def _rebuilt(trained: AcousticModel, xent_head: bool, dropout: float) -> AcousticModel:
    """Return a network with the parameters of `trained`, with or without a second head, which is a copy of the first
    where it is new."""
    values = {**trained.config.to_dict(), "xent_head": xent_head, "dropout": dropout}
    model = build_model(trained.kind, values, seed=0)
    state = {name: value for name, value in trained.state_dict().items() if xent_head or not name.startswith("xent")}
    if xent_head and not trained.config.xent_head:
        for name in [name for name in state if name.startswith("output")]:
            state["xent" + name[len("output") :]] = state[name].clone()
    model.load_state_dict(state)
    return model
