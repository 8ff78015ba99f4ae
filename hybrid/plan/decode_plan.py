"""The plan of decoding and second passes: searches, networks of text, scores of n-best lists."""

from __future__ import annotations

from hybrid.pipeline.second_pass_settings import TRAINED_ON_TEXT
from hybrid.pipeline.systems import System, chosen
from hybrid.plan import stage_costs as costs
from hybrid.plan.stage_cost import StageCost, told
from hybrid.plan.workload import Workload


def _search(work: Workload, row: System) -> float:
    """Return the CPU seconds of a search an hour of speech."""
    active = 1 + costs.ACTIVE.value * (work.settings.decode.max_active / 3000 - 1)
    large = costs.LARGE_SEARCH.value if work.is_large(row) else 1.0
    return (costs.NETWORK_SEARCH if row.network else costs.GMM_SEARCH).value * active * large


def decode(work: Workload) -> StageCost:
    settings, speech = work.settings.decode, work.speech
    searches = costs.SEARCHES.value
    dev = speech.dev.hours * work.conditions(speech.dev)
    tests = sum(amount.hours * work.conditions(amount) for amount in speech.tests.values())
    on_test = 1 + (searches - 1 if "test" in settings.tune_on else 0) + (settings.confidence == "test")
    searched = searches * dev + on_test * tests
    cpu, largest_graph = 2.0, 0.0
    for row in chosen(work.settings):
        search = _search(work, row)
        # A system with transforms of speakers decodes once more for each pass that estimates them.
        passes = settings.adapt_passes if row.first_pass else 1
        cpu += search * (searched + (passes - 1) * (dev + tests))
        if row.network:
            cpu += costs.FORWARD_WEIGHT.value * work.multiply_adds(row)[1] * (dev + tests)
        largest_graph = max(largest_graph, costs.ARC_MEMORY.value * work.arcs(row))
    systems = len(chosen(work.settings))
    largest = max(amount.hours for amount in speech.decoded)
    networks = any(row.network for row in chosen(work.settings))
    scratch = 4.0 * costs.OUTPUT_FRAMES * work.senones() * largest if networks else 0.0
    in_memory = 4.0 * costs.HOUR_FRAMES * work.settings.features.logmel.num_bins * largest
    return StageCost(
        "decode", cpu, costs.HYPOTHESES_DISK.value * systems * (dev + tests), scratch=scratch,
        memory=costs.PROCESS.value + in_memory + 5e8, worker_memory=1.6 * costs.WORKER.value + largest_graph,
        why=[f"{systems} systems on {dev + tests:,.1f} hours, {searched:,.1f} hours searched with at most "
             f"{settings.max_active} active", *told(costs.SEARCHES, costs.GMM_SEARCH, costs.NETWORK_SEARCH,
                                                     costs.LARGE_SEARCH)],
    )  # fmt: skip


def text_models(work: Workload) -> StageCost:
    """The networks of text: what a token of them takes, for each word of the training transcripts and epoch."""
    settings = work.settings.text_models
    words = costs.WORDS_AN_HOUR.value * work.speech.train.hours
    names = work.settings.rescore.text_models
    products = {name: token_products(work, name) for name in names}
    cpu = 3.0 + sum(
        3 * costs.TEXT.value * products[name] * words * getattr(settings, name).epochs for name in names
    )  # fmt: skip
    disk = sum(4e6 * products[name] for name in names)
    more = [f"{len(settings.text)} files of text are not counted"] if settings.text else []
    return StageCost(
        "text_models", cpu, 4 * disk, memory=costs.PROCESS.value + 8 * disk, processes=1,
        why=[f"{words:,.0f} words of transcripts, {sum(products.values()):.1f} M multiply-adds a word", *more,
             *told(costs.TEXT)],
    )  # fmt: skip


def token_products(work: Workload, name: str) -> float:
    """Return the millions of multiply-adds that a model of text takes for a token."""
    settings = getattr(work.settings.text_models, name)
    said = costs.WORDS_AN_HOUR.value * work.speech.train.hours
    tokens = work.settings.text_models.pieces or min(work.speech.words, said / 5)
    if name == "lstm":
        return float(8 * settings.hidden**2 * settings.layers + settings.hidden * tokens) / 1e6
    return float(12 * settings.dim**2 * settings.layers + settings.dim * tokens) / 1e6


def rescore(work: Workload) -> StageCost:
    hours = sum(amount.hours * work.conditions(amount) for amount in work.speech.decoded)
    settings = work.settings.rescore
    rows = [row for row in chosen(work.settings) if row.name in settings.systems]
    train = 0.0
    if settings.learns:
        taught = work.speech.train
        train = taught.hours * min(1.0, settings.train_lists / max(taught.utterances, 1))
    # Lattices are made for each model in them, and once more for n-best lists, of training speech too.
    searched = len(settings.of_lattices) * hours + (hours + train if settings.of_lists else 0.0)
    cpu, largest_graph = 2.0 + len(rows) * _list_scores(work, hours, train), 0.0
    for row in rows:
        cpu += costs.SECOND_PASS.value * _search(work, row) * searched
        if row.network:
            cpu += costs.FORWARD_WEIGHT.value * work.multiply_adds(row)[1] * searched
        largest_graph = max(largest_graph, costs.ARC_MEMORY.value * work.arcs(row))
    models = costs.FULL_DISK.value * work.read_ngrams
    return StageCost(
        "rescore", cpu, costs.HYPOTHESES_DISK.value * len(rows) * len(settings.passes) * hours, scratch=models,
        memory=costs.PROCESS.value, worker_memory=1.6 * costs.WORKER.value + largest_graph + models,
        why=[f"{len(rows)} systems on {hours:,.1f} hours", *told(costs.SECOND_PASS)],
    )  # fmt: skip


def _list_scores(work: Workload, hours: float, train: float) -> float:
    """Return the CPU seconds that scores of n-best lists take, and the training of what learns from them."""
    settings, bert = work.settings.rescore, work.settings.text_models.bert
    words = costs.WORDS_AN_HOUR.value * hours * settings.nbest
    learnt = costs.WORDS_AN_HOUR.value * train * settings.train_nbest
    # A lattice has about as many states to score as a list of 50 has words.
    cpu = sum(costs.TEXT.value * token_products(work, network) * 50 * costs.WORDS_AN_HOUR.value * hours
              for network in settings.of_lattices.values() if network)  # fmt: skip
    for name in settings.components:
        if name not in TRAINED_ON_TEXT:
            continue
        a_word = costs.TEXT.value * token_products(work, TRAINED_ON_TEXT[name])
        if name == "bert":
            cpu += a_word * (words + learnt * (costs.SENTENCE.value + 3 * (bert.distil_epochs + bert.epochs)))
        else:
            cpu += a_word * words * (costs.SENTENCE.value if name == "pll" else 1.0)
    return cpu
