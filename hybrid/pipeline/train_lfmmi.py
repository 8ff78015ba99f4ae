"""Networks trained with LF-MMI (stages lfmmi, teacher_lfmmi, student_lfmmi), from another or from random parameters."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple

import numpy as np
import torch

from hybrid.data.batches import Utterance
from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.lexicon.lang import Lang
from hybrid.nnet.base import AcousticModel
from hybrid.nnet.model_io import build_model, load_model, load_state
from hybrid.nnet.priors import priors_of_model
from hybrid.pipeline.network import data_sets, fit, network_seed, new_model, save, utterances
from hybrid.pipeline.phones import drawn, phones_of_pdfs, spoken
from hybrid.pipeline.recipe_run import RecipeRun
from hybrid.pipeline.senones import Segments, network_senones
from hybrid.pipeline.sets import set_list
from hybrid.pipeline.soft_data import untranscribed
from hybrid.pipeline.soft_targets import read_soft, teacher_of
from hybrid.pipeline.systems import System, is_aligned
from hybrid.train.chunks import Chunks, split
from hybrid.train.denominator import describe, make_denominator
from hybrid.train.fsa import Fsa, PhoneAcceptor
from hybrid.train.lfmmi import LfMmi
from hybrid.train.numerator import Numerators, check_length
from hybrid.train.phone_lm import save_phone_lm, train_phone_lm
from hybrid.train.sequence_student import SequenceStudent
from hybrid.train.trainer import Criterion, epoch_file

Graph = Callable[[Utterance], Iterator[Tuple[int, int, Fsa]]]  # pieces of an utterance: begin, end, their numerator


def train_lfmmi(run: RecipeRun, system: System) -> None:
    """Write EXP/SYSTEM/model, phone_lm.json, denominator.safetensors."""
    settings = getattr(run.settings, system.name)
    senones = network_senones(run)
    lang = Lang.load(run.dir("lang"))
    names, dev_names = data_sets(run, system)
    data, segments = utterances(run, names)
    dev, dev_segments = utterances(run, dev_names)
    seed = network_seed(run)
    if is_aligned(run.settings):
        sequences = {identifier: phones.tolist() for identifier, (phones, _) in segments.items()}
    else:
        sequences = spoken({utterance.id: utterance.extra["text"] for utterance in data}, lang, seed)
    if settings.lm_words:
        sequences |= drawn(run, lang, settings.lm_words, seed)
    phone_lm = train_phone_lm(sequences, phones=lang.phone_ids, **asdict(settings.phone_lm))
    save_phone_lm(run.dir(system.name) / "phone_lm.json", phone_lm)
    denominator, graph = graphs(run, lang, phone_lm, senones, {**segments, **dev_segments}, system)
    denominator.save(run.dir(system.name) / "denominator.safetensors")
    run.log(f"  denominator: {describe(denominator)}")
    problems = run.problems(system.name)
    total = len(data) + len(dev)
    data, dev = with_numerators(data, graph, problems), with_numerators(dev, graph, problems)
    problems.close(total, run.settings.limits.problems)
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
            Path(settings.init_from), xent_head, settings.dropout, data[0].features.shape[1], senones.num_pdfs
        )
    full_criterion: Criterion = criterion
    if getattr(settings, "soft", 0.0):
        data += occupied(run, system)
        full_criterion = SequenceStudent(criterion, settings.soft)
    fit(run, system, model, full_criterion, data, dev)
    save(run, system, model, senones, None)


def occupied(run: RecipeRun, system: System) -> List[Utterance]:
    """Return the untranscribed utterances, with the teacher's occupancies; all pdfs -100, for there is no alignment."""
    names = set_list(run).unlabelled
    if not names:
        raise ConfigError(
            f"{system.name}.soft is above 0, and there is no untranscribed speech",
            remedy=f"set {system.name}.soft=0, or name some: corpus.unlabelled, or corpus.labelled below 1",
        )
    soft = read_soft(run, "occupancies", names)
    return untranscribed(run, system.name, soft, teacher_of(run, "occupancies")[0])


def graphs(
    run: RecipeRun, lang: Lang, phone_lm: PhoneAcceptor, senones: Any, segments: Segments, system: System
) -> Tuple[Fsa, Graph]:
    """Return the denominator, and what makes the numerators of an utterance, as the system's section says; segments:
    the alignments."""
    settings = getattr(run.settings, system.name)
    chunks = Chunks(phone_lm, senones) if settings.chunk_frames else None
    numerators = Numerators(phone_lm, senones, lang)

    def of_words(utterance: Utterance) -> Iterator[Tuple[int, int, Fsa]]:
        words = lang.word_ids(utterance.extra["text"], utterance.id)
        yield 0, utterance.num_frames, numerators.from_words(words, utterance.id)

    def of_alignment(utterance: Utterance) -> Iterator[Tuple[int, int, Fsa]]:
        phones, lengths = _aligned_to(utterance, segments)
        yield 0, utterance.num_frames, numerators.from_alignment(phones, lengths, settings.tolerance, utterance.id)

    def of_pieces(utterance: Utterance) -> Iterator[Tuple[int, int, Fsa]]:
        phones, lengths = _aligned_to(utterance, segments)
        for begin, end in split(utterance.num_frames, settings.chunk_frames):
            graph = chunks.numerator(  # type: ignore[union-attr]
                phones, lengths, begin, end, tolerance=settings.tolerance, utterance=utterance.id
            )
            yield begin, end, graph

    if chunks is not None:
        return chunks.denominator, of_pieces
    return make_denominator(phone_lm, senones), of_words if settings.numerators == "words" else of_alignment


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


def _aligned_to(utterance: Utterance, segments: Segments) -> Tuple[List[int], List[int]]:
    """Return the phones and durations of an utterance's clean cut, the last phone as long as the utterance's frames
    ask."""
    phones, lengths = segments[utterance.extra["clean_cut"]]
    lengths = lengths.copy()
    lengths[-1] -= lengths.sum() - utterance.num_frames
    return phones.tolist(), lengths.tolist()


def with_numerators(data: Sequence[Utterance], graph: Graph, problems: Any) -> List[Utterance]:
    """Return the utterances, or pieces of them, with extra["numerator"]; those that have none are named and left out.
    Twins share their graphs."""
    numerators: Dict[Tuple[str, int], List[Tuple[int, int, Fsa]]] = {}
    supervised = []
    for utterance in data:
        key = (utterance.extra["clean_cut"], utterance.num_frames)
        try:
            if key not in numerators:
                pieces = list(graph(utterance))
                for begin, end, numerator in pieces:
                    check_length(numerator, end - begin, utterance.id)
                numerators[key] = pieces
        except DataError as error:
            problems.add_error(utterance.id, error)
            continue
        for begin, end, numerator in numerators[key]:
            name = utterance.id if len(numerators[key]) == 1 else f"{utterance.id}-{begin}"
            pdfs = None if utterance.pdfs is None else utterance.pdfs[begin:end]
            extra = {"numerator": numerator, "pool": utterance.extra["pool"], "copy": utterance.extra["copy"]}
            supervised.append(Utterance(name, utterance.features[begin:end], pdfs, extra))
    return supervised
