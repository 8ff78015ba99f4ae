"""Settings: what is wrong is said before stage 0, in one line, with what to do; tables that are like others, sizes."""

from __future__ import annotations

import copy
import math
import re
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Tuple, get_type_hints

import pytest
from conftest import PROJECT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recipe_tools import recipe_run

from hybrid.cli import main
from hybrid.config import AUTO, Config, read_toml
from hybrid.errors import ConfigError
from hybrid.io import write_json
from hybrid.parallel import cores
from hybrid.pipeline.names import recipe_names
from hybrid.pipeline.network import trainer_config
from hybrid.pipeline.recipe import defaults, find_recipe, layered
from hybrid.pipeline.settings import Settings
from hybrid.train.config import TrainerConfig
from hybrid.typed import Declared, above, at_least, between, build, one_of

NAMES = [
    (["decode.system=x"], "no setting decode.system; near it: decode.systems"),
    (["gmm.mono.pases=3"], "no setting gmm.mono.pases; near it: gmm.mono.passes"),
    (["ce.epochs=3"], "no setting ce.epochs; near it: trainer.epochs, ce.trainer.epochs"),
    (["training.epochs=3"], "no setting training.epochs; near it: trainer.epochs"),
    (["gmm=3"], "gmm is a section. Remedy: set one of its settings: gmm."),
    (["lfmmi.start=flat"], "no setting lfmmi.start"),
    (["corpus.test.other=x"], "no setting corpus.test.other"),
]
TYPES = [
    (["gmm.mono.passes=many"], "gmm.mono.passes must be a whole number, as its default 20"),
    (["gmm.mono.passes=2.5"], "gmm.mono.passes must be a whole number"),
    (["gmm.mono.passes=true"], "gmm.mono.passes must be a whole number"),
    (["gmm.mono.passes=auto"], "gmm.mono.passes must be a whole number"),
    (["gmm.mono.gaussians=automatic"], "gmm.mono.gaussians must be a whole number"),
    (["gmm.mono.gaussians=2.5"], "gmm.mono.gaussians must be a whole number"),
    (["student_ce.trainer.epochs=x"], "student_ce.trainer.epochs must be a whole number"),
    (["decode.beam=wide"], "decode.beam must be a number, as its default 11.0"),
    (["decode.systems=mono"], "decode.systems must be a list"),
    (["decode.systems=[1]"], "decode.systems is 1. Remedy: a text"),
    (["decode.gmm.scales=[true]"], "decode.gmm.scales[0] must be a number"),
    (["corpus.train=3"], "corpus.train must be a list"),
    (["model.bidirectional=1"], "model.bidirectional must be true or false, as its default true"),
    (["augment.train_snr=[0,\"loud\"]"], "augment.train_snr[1] must be a number"),
]
RANGES = [
    (["gmm.mono.passes=-3"], "gmm.mono.passes is -3. Remedy: a number 1 or more"),
    (['rescore.systems=["nobody"]'], "rescore.systems has 'nobody', which is not decoded. Remedy: use some of mono"),
    (['rescore.systems=["tri3"]'], "rescore.systems has 'tri3', whose transforms are made while it is decoded"),
    (["rescore.lm_scales=[]"], "rescore.lm_scales is empty"),
    (["rescore.neural_scales=[]"], "rescore.neural_scales is empty"),
    (['rescore.passes=["gpt"]'], "rescore.passes has 'gpt'. Remedy: use ngram, lattice-lstm"),
    (['rescore.passes=["lstm+lstm"]'], "rescore.passes has 'lstm+lstm'"),
    (['rescore.passes=["lstm+lattice-lstm"]'], "rescore.passes has 'lstm+lattice-lstm'"),
    (["rescore.passes=[]", 'rescore.systems=["lfmmi"]'], "rescore.passes is empty"),
    (["text_models.masked.heads=5"], "dim is 192, with 5 heads"),
    (["limits.problems=1.5"], "limits.problems is 1.5. Remedy: a number 0 or more, up to 1"),
    (["augment.speeds=[0.9, 0.4]"], "augment.speeds is [0.9, 0.4]. Remedy: a number 0.5 or more, up to 2"),
    (["augment.speeds=[1.0]"], "augment.speeds has 1, which is the speech as it is. Remedy: factors such as 0.9, 1.1"),
    (["augment.train_snr=[20.0, 0.0]"], "augment.train_snr is [20.0, 0.0]. Remedy: the lowest and the highest"),
    (["augment.train_gain=[1.0]"], "augment.train_gain is [1.0]. Remedy: the lowest and the highest"),
    (["corpus.labelled=0"], "corpus.labelled is 0.0. Remedy: a number above 0, up to 1"),
    (["corpus.rate=100"], "corpus.rate is 100. Remedy: Hz, such as 8000 or 16000"),
    (["corpus.channel=-2"], "corpus.channel is -2. Remedy: a number -1 or more"),
    (["corpus.speaker=["], "corpus.speaker is no regular expression: unterminated character set"),
    (["corpus.speaker=abc"], "corpus.speaker is 'abc'. Remedy: folder; how many letters"),
    (["lm.order=0"], "lm.order is 0. Remedy: a number 1 or more, up to 10"),
    (["model.dropout=1.0"], "model.dropout is 1.0. Remedy: a number 0 or more, up to 0.99"),
    (["decode.beam=0"], "decode.beam is 0.0. Remedy: a number above 0"),
    (["decode.beam=inf"], "decode.beam is inf. Remedy: a number above 0"),
    (["decode.beam=nan"], "decode.beam is nan. Remedy: a number above 0"),
    (["decode.gmm.scales=[]"], "an empty grid in decode. Remedy: at least one of each"),
    (["decode.ce.penalties=[]"], "an empty grid in decode. Remedy: at least one of each"),
    (["decode.lfmmi.scales=[1.0, 0.0]"], "decode.lfmmi.scales is [1.0, 0.0]. Remedy: a number above 0"),
    (["student.k=-1"], "student.k is -1. Remedy: a number 0 or more"),
    (["student_lfmmi.soft=-1.0"], "student_lfmmi.soft is -1.0. Remedy: a number 0 or more"),
    (["ce.trainer.lr=0.0"], "ce.trainer: lr is 0. Remedy: a number above 0"),
    (["lfmmi.trainer.epochs=0"], "lfmmi.trainer: epochs is 0. Remedy: a whole number, at least 1"),
    (["ce.trainer.workers=3"], "ce.trainer: 3 workers share 1 batches an update. Remedy: "),
    (["ce.trainer.average=-1"], "ce.trainer: average is -1. Remedy: "),
]
CHOICES = [
    (["model.kind=conformer"], "model.kind is 'conformer'. Remedy: use one of 'lstm', 'tdnnf'"),
    (["model.kind=tdnn"], "model.kind is 'tdnn'; near it: tdnnf. Remedy: use one of"),
    (['decode.systems=["foo"]'], "decode.systems is ['foo']. Remedy: some or all of mono, tri1"),
    (['decode.tune_on=["test"]'], 'decode.tune_on is [\'test\']. Remedy: use ["dev"] or ["dev", "test"]'),
    (["gmm.last=tri4"], "gmm.last is 'tri4'; near it: tri3. Remedy: use one of 'mono', 'tri1'"),
    (["senones.align_with=tri9"], "senones.align_with is 'tri9'"),
    (["corpus.units=letters"], "corpus.units is 'letters'. Remedy: use one of 'auto', 'words', 'graphemes'"),
    (["corpus.oov=skip"], "corpus.oov is 'skip'. Remedy: use one of 'error', 'leave', 'unk', 'g2p'"),
    (["features.backend=kaldi"], "features.backend is 'kaldi'; near it: kaldifeat"),
    (["model.cmvn=speakers"], "model.cmvn is 'speakers'; near it: speaker. Remedy: use one of 'speaker'"),
    (["lfmmi.numerators=phones"], "lfmmi.numerators is 'phones'. Remedy: use one of 'alignment', 'words'"),
    (["lfmmi.criterion.engine=fast"], "lfmmi.criterion.engine is 'fast'"),
    (["teacher_lfmmi.phone_lm.smoothing=kneser"], "teacher_lfmmi.phone_lm.smoothing is 'kneser'"),
    (["ce.priors=flat"], "ce.priors is 'flat'. Remedy: use one of 'counts', 'average'"),
    (["scheduled.dtype=int8"], "scheduled.dtype is 'int8'. Remedy: use one of 'float32', 'float16'"),
    (["student.head=both"], "student.head is 'both'"),
    (["trainer.optimizer=sdg"], "ce.trainer: optimizer is 'sdg'. Remedy: one of adam, adamw, sgd"),
    (["ce.trainer.strategy=mean"], "ce.trainer: strategy is 'mean'. Remedy: one of sum, ddp"),
    (["ce.trainer.precision=fp8"], "ce.trainer: precision is 'fp8'. Remedy: one of "),
    (["ce.trainer.schedule=steps"], "ce.trainer: "),
    (["ce.trainer.dropout_schedule=0.2@x"], "ce.trainer: "),
]
STUDENT = "student.enabled=true"
COMBINATIONS = [
    (
        ["gmm.last=tri1", "senones.align_with=tri3"],
        "senones.align_with is 'tri3', gmm.last 'tri1'. Remedy: use one of last, mono, tri1, none",
    ),
    (["gmm.last=none"], "but gmm.last is none: there are no alignments. Remedy: set lfmmi.init_from=flat"),
    (["senones.align_with=none"], "Remedy: set lfmmi.init_from=flat lfmmi.numerators=words"),
    (['decode.systems=["teacher_ce"]'], "decode.systems names teacher_ce: left out by "),
    (['decode.systems=["tri3"]', "gmm.last=tri2", "senones.align_with=tri2"], "decode.systems names tri3: left out"),
    (["corpus.lexicon=", "corpus.units=words"], "corpus.units is 'words', and there is no corpus.lexicon. Remedy: "),
    (["corpus.lexicon=", "corpus.units=phone_pieces"], "corpus.units is 'phone_pieces', and there is no "),
    (["corpus.units=pieces", "corpus.lm=python"], 'a grammar of words, and corpus.units is pieces'),
    (["corpus.lm="], 'corpus.lm is empty. Remedy: use "train"'),
    (["corpus.train=[]"], 'corpus.train is not given. Remedy: write train = "FOLDER"'),
    (["corpus.noise="], "corpus.rooms without corpus.noise. Remedy: give noises too"),
    (["corpus.python="], '"python" stands in [corpus], and corpus.python names no file. Remedy: name the file'),
    (["corpus.test_speakers=3"], "corpus.test_speakers, and test sets of their own. Remedy: leave one of them out"),
    (["scheduled.enabled=true"], "scheduled.enabled without student.enabled. Remedy: set student.enabled=true"),
    ([STUDENT, "corpus.noise=", "corpus.rooms="], "student.enabled, and there is no corpus.noise. Remedy: "),
    ([STUDENT, "student.online=true", "student.targets=occupancies"], "Remedy: set student.online=false"),
    ([STUDENT, "student.online=true", "scheduled.enabled=true"], "Remedy: targets must be stored to be streamed"),
    ([STUDENT, "student.online=true", "student.confident=0.5"], "Remedy: targets must be stored to choose"),
    ([STUDENT, "student_ce.priors=average"], "student_ce.priors is 'average', and has no effect. Remedy: leave it"),
    ([STUDENT, "student_ce.label_smoothing=0.1"], "student_ce.label_smoothing is 0.1, and has no effect. Remedy: "),
    ([STUDENT, "student.teacher=nobody"], "student.teacher is 'nobody'"),
    ([STUDENT, "student.soft_ce=false"], "student_lfmmi.init_from is 'student'. Remedy: use flat, ce"),
    ([STUDENT, "student_lfmmi.init_from=cold"], "student_lfmmi.init_from is 'cold'. Remedy: use flat, ce, student"),
    (["lfmmi.init_from=cold"], "lfmmi.init_from is 'cold'. Remedy: use flat, ce, or the folder of a model"),
    (["lfmmi.numerators=words", "lfmmi.chunk_frames=50"], "Remedy: 0 for whole utterances; chunks need the alignment"),
    (["lfmmi.phone_lm.smoothing=bigrams", "lfmmi.phone_lm.no_prune_order=1"], "Remedy: set order and no_prune_order"),
    (["scheduled.chunks=3*("], "scheduled.chunks: "),
    (["model.tdnnf.strides=[1, -1]"], "model.tdnnf: "),
]


@pytest.mark.parametrize(("changes", "says"), [*NAMES, *TYPES, *RANGES, *CHOICES, *COMBINATIONS])
def test_what_is_wrong_is_said_before_anything_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture, changes: List[str], says: str
) -> None:
    exp = tmp_path / "exp"
    assert main(["run", "demo", "--exp", str(exp), "--list", "--set", *changes]) == 2
    out, err = capsys.readouterr()
    assert says in err and err.startswith("hybrid: ") and err.count("\n") == 1 and out == ""
    assert re.search(r"Remedy: \S|near it: \S|must be (a|true)|no setting", err)
    with pytest.raises(ConfigError) as caught:
        recipe_run(exp, *changes)
    assert err == f"hybrid: {' '.join(str(caught.value).split())}\n" and not exp.exists()


def test_a_right_one_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Else the table above could pass on a demo that is always refused."""
    assert main(["run", "demo", "--exp", str(tmp_path / "exp"), "--list", "--set", "gmm.mono.passes=3"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("  0  prepare") and err == "" and not (tmp_path / "exp").exists()


RECIPE = '[corpus]\ntrain = "data"\nlexicon = "lexicon.txt"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[corpus]\ntrain = 3\n", "corpus.train must be a list"),
        ("[corpus]\n", "corpus.train is not given"),
        ("corpus = 3\n", "corpus is a section, not a setting"),
        ("[curpus]\ntrain = 'x'\n", "no setting curpus; near it: corpus"),
        (RECIPE + "[corpus.test]\ndev = 'x'\n", "corpus.test has a set named 'dev'. Remedy: name test sets"),
        (RECIPE + "[corpus.test]\n'a b' = 'x'\n", "corpus.test has a set named 'a b'. Remedy: name test sets"),
        (RECIPE + "test = { a = { pth = 'x' } }\n", "no setting corpus.test.a.pth; near it: path"),
        (RECIPE + "test = { a = { condition = 'far' } }\n", "no setting corpus.test.a.path. Remedy: add it"),
        (RECIPE + "test = { a = { path = 'x', condition = 'a b' } }\n", "the condition 'a b' in corpus.test"),
        (RECIPE + "test = { a = { path = 'x', least = 'old' } }\n", "corpus.test.a.least is 'old'. Remedy: a number"),
        (RECIPE + "rooms = 'rirs'\n", "corpus.rooms without corpus.noise"),
        (RECIPE + "noise = 'python'\n", "corpus.python names no file"),
        (RECIPE + "python = 'gone.py'\n", "no such file, named by corpus.python"),
        (RECIPE + "[trainer]\nlr = 'fast'\n", "trainer.lr='fast': trainer.lr must be a number"),
        (RECIPE + "[ce.trainer]\nepoch = 3\n", "no setting ce.trainer.epoch; near it: ce.trainer.epochs"),
        (RECIPE + "[model]\nhidden = 'large'\n", "model.hidden must be a whole number"),
        (RECIPE + "[sizes]\nhours = [1.0]\n", "has not one value for each of the rising sizes.hours"),
        ("[corpus\n", "not TOML: "),
    ],
)
def test_files_of_recipes_that_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture, text: str, says: str
) -> None:
    (tmp_path / "my.toml").write_text(text)
    assert main(["run", str(tmp_path / "my.toml"), "--exp", str(tmp_path / "exp"), "--list"]) == 2
    out, err = capsys.readouterr()
    assert says in err and err.count("\n") == 1 and out == "" and not (tmp_path / "exp").exists()


def test_one_source_may_be_a_text_and_one_test_set_too(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text(RECIPE + 'unlabelled = "more"\ntest = "other"\n')
    recipe = find_recipe(str(tmp_path / "my.toml"))
    corpus = recipe.run(tmp_path / "exp", recipe.config()).settings.corpus
    assert (corpus.train, corpus.unlabelled, corpus.test) == (["data"], ["more"], {"test": "other"})


# ------------------------------------------------------------------ typed.py


@dataclass(frozen=True, kw_only=True)
class Inner:
    name: str
    share: float = between(0, 1)


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner
    free: Dict[str, Any]
    sizes: List[int] = at_least(1)
    rate: float = above(0, 2)
    kind: str = one_of("a", "b")
    plain: int = 3


INNER = {"name": "x", "share": 0}
GOOD: Dict[str, Any] = {"inner": INNER, "free": {"any": [1]}, "sizes": [1, 2], "rate": 2, "kind": "a"}


def test_a_section_becomes_an_object() -> None:
    built = build(Outer, GOOD, "outer")
    assert built == Outer(inner=Inner(name="x", share=0.0), free={"any": [1]}, sizes=[1, 2], rate=2.0, kind="a")
    assert isinstance(built.rate, float) and isinstance(built.inner.share, float) and built.plain == 3


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kinds": "a"}, "no setting outer.kinds; near it: kind"),
        ({"inner": None}, "outer.inner is None, and should be a section"),
        ({"inner": {"name": "x"}}, "no setting outer.inner.share. Remedy: add it to the settings"),
        ({"inner": {"name": 1, "share": 0.5}}, "outer.inner.name is 1. Remedy: a text"),
        ({"inner": {"name": "x", "share": 1.01}}, "outer.inner.share is 1.01. Remedy: a number 0 or more, up to 1"),
        ({"free": []}, r"outer.free is \[\], and should be a section"),
        ({"sizes": 3}, "outer.sizes is 3. Remedy: a list"),
        ({"sizes": [1, True]}, "outer.sizes is true. Remedy: a whole number"),
        ({"sizes": [1, 1.0]}, "outer.sizes is 1.0. Remedy: a whole number"),
        ({"sizes": [1, 0]}, r"outer.sizes is \[1, 0\]. Remedy: a number 1 or more"),
        ({"rate": 0}, "outer.rate is 0.0. Remedy: a number above 0, up to 2"),
        ({"rate": 2.5}, "outer.rate is 2.5"),
        ({"rate": math.nan}, "outer.rate is nan"),
        ({"rate": "fast"}, "outer.rate is 'fast'. Remedy: a number"),
        ({"kind": "ab"}, "outer.kind is 'ab'.*Remedy: use one of 'a', 'b'"),
        ({"plain": "3"}, "outer.plain is '3'. Remedy: a whole number"),
    ],
)
def test_sections_that_are_refused(change: Mapping[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        build(Outer, {**GOOD, **change}, "outer")


def test_a_stage_reads_what_it_declares_alone() -> None:
    seen = Declared(build(Outer, GOOD), ("inner.name", "sizes"), lambda name: KeyError(name))
    assert seen.inner.name == "x" and seen.sizes == [1, 2]
    for read, name in ((lambda: seen.rate, "rate"), (lambda: seen.inner.share, "inner.share")):
        with pytest.raises(KeyError, match=name):
            read()
    whole = Declared(build(Outer, GOOD), ("inner",), lambda name: KeyError(name))
    assert whole.inner == Inner(name="x", share=0.0)
    with pytest.raises(KeyError, match="innermost"):  # a name that only begins like one that is declared
        whole.innermost  # noqa: B018


# ------------------------------------------------------------------ tables like others, sizes

LIKE: Dict[str, Any] = {
    "base": {"x": 1, "deep": {"y": 2, "z": 3}},
    "next": {"like": "base", "x": 5},
    "last": {"like": "next", "deep": {"y": 7}},
    "part": {"like": "base.deep", "y": 4},
}


def test_a_table_has_the_settings_of_the_one_that_it_is_like() -> None:
    config = Config(LIKE)
    assert config["next"] == {"x": 5, "deep": {"y": 2, "z": 3}} and config["part"] == {"y": 4, "z": 3}
    assert config["last"] == {"x": 5, "deep": {"y": 7, "z": 3}} and "like" not in str(config.flat())
    changed = config.with_overrides(["base.deep.z=9", "next.deep.y=8"])
    assert changed["base"] == {"x": 1, "deep": {"y": 2, "z": 9}} and changed["next.deep"] == {"y": 8, "z": 9}
    assert changed["last"] == {"x": 5, "deep": {"y": 7, "z": 9}} and changed["part"] == {"y": 4, "z": 9}
    assert config["base.deep.z"] == 3
    over = config.with_file(Path("own.toml"), {"last": {"deep": {"z": 1}}, "base": {"x": 0}})
    assert over["last"] == {"x": 5, "deep": {"y": 7, "z": 1}} and over["next.x"] == 5 and over["base.x"] == 0


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"a": {"like": "a"}}, "tables are like each other: a, a"),
        ({"a": {"like": "b"}, "b": {"like": "a"}}, "tables are like each other: (a, b, a|b, a, b)"),
        ({"a": {"like": "b"}, "b": {"like": "c"}, "c": {"like": "b"}}, "tables are like each other: b, c, b"),
        ({"a": {"like": "none"}}, 'like = "none", and there is no such table'),
        ({"a": {"like": "b.x"}, "b": {"x": 3}}, 'like = "b.x", and there is no such table'),
    ],
)
def test_tables_that_cannot_be_like_others(values: Mapping[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Config(values)


def sized(row: List[Any], hours: List[float], **more: Any) -> Config:
    return Config({"a": {"n": "auto", "m": 7}, "sizes": {"hours": hours, "a": {"n": row}}, **more})


@pytest.mark.parametrize(
    ("hours", "value"),
    [(0.001, 100), (1.0, 100), (10.0, 200), (100.0, 900), (1e6, 900), (math.sqrt(10), 150), (10**1.5, 550),
     (2.0, 130), (50.0, 690)],
)  # fmt: skip
def test_a_size_is_interpolated_over_the_logarithm_of_the_hours(hours: float, value: int) -> None:
    config = sized([100, 200, 900], [1.0, 10.0, 100.0])
    found = config.sized(hours)["a.n"]
    assert found == value and type(found) is int  # to two digits
    assert type(sized([1.0, 2.0], [1.0, 10.0]).sized(hours)["a.n"]) is float
    assert config.sized(None)["a.n"] == AUTO and config["a.n"] == AUTO
    assert config.with_overrides(["a.n=3"]).sized(hours)["a.n"] == 3
    assert config.with_overrides(["a.n=3", "a.n=auto"]).sized(hours)["a.n"] == value


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=8), st.floats(1e-3, 1e5))
def test_a_size_lies_between_those_of_its_columns(row: List[int], hours: float) -> None:
    columns = [10.0 ** (number - 2) for number in range(len(row))]
    found = sized(row, columns).sized(hours)["a.n"]
    place = min(max(hours, columns[0]), columns[-1])
    right = next(number for number, column in enumerate(columns) if column >= place * (1 - 1e-12))
    near = row[max(right - 1, 0) : right + 1]
    assert min(near) * 0.94 <= found <= max(near) * 1.06  # two digits
    assert sized(sorted(row), columns).sized(hours)["a.n"] <= sized(sorted(row), columns).sized(2 * hours)["a.n"]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (sized([1, 2], [1.0]), "sizes.a.n has not one value for each of the rising sizes.hours"),
        (sized([1, 2], [10.0, 1.0]), "sizes.a.n has not one value"),
        (sized([], []), "sizes.a.n has not one value"),
        (Config({"a": {"n": "auto"}, "sizes": {"hours": [1.0], "a": {"n": 3}}}), "sizes.a.n has not one value"),
        (Config({"a": {"n": "auto"}, "sizes": {"hours": [1.0], "a": {"k": [3]}}}), "names a.k, and there is no such"),
    ],
)
def test_tables_of_sizes_that_are_none(config: Config, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        config.sized(1.0)


def test_a_table_like_one_that_is_sized_has_its_size() -> None:
    config = sized([100, 200], [1.0, 10.0], b={"like": "a"})
    assert config.sized(1.0)["b"] == {"n": 100, "m": 7}
    assert config.with_overrides(["b.n=5"]).sized(1.0)["b.n"] == 5
    assert config.with_overrides(["b.n=auto"]).sized(10.0)["b.n"] == 200  # it has no row of its own
    assert config.with_file(Path("own.toml"), {"b": {"n": "auto", "m": 1}}).sized(10.0)["b"] == {"n": 200, "m": 1}
    with pytest.raises(ConfigError, match="a.m must be a whole number"):
        config.with_overrides(["a.m=auto"])


# ------------------------------------------------------------------ the settings that there are


def hints(kind: Any = Settings, prefix: str = "") -> Iterator[Tuple[str, Any]]:
    """Every setting with its type."""
    for name, hint in get_type_hints(kind).items():
        if is_dataclass(hint):
            yield from hints(hint, f"{prefix}{name}.")
        elif name == "trainer":
            known = get_type_hints(TrainerConfig)
            yield from ((f"{prefix}trainer.{key}", known[key]) for key in ("epochs",))
        else:
            yield prefix + name, hint


HOURS = [0.01, 0.05, 0.3, 1.0, 7.5, 960.0, 1e5]


@pytest.mark.parametrize("recipe", ["defaults", *recipe_names()])
def test_every_setting_that_is_auto_gets_a_value_of_its_type(recipe: str) -> None:
    config = Config(defaults()) if recipe == "defaults" else find_recipe(recipe).config()
    types = dict(hints())
    autos = {name for name, value in config.flat().items() if value == AUTO and types.get(name) is not str}
    assert len(autos) > 12 or recipe in ("an4", "demo")  # which say what is best on their development sets
    for hours in HOURS:
        flat = config.sized(hours).flat()
        for name in autos:
            assert type(flat[name]) is types[name] is int and flat[name] > 0, name


def test_every_row_of_sizes_is_of_a_setting_that_is_auto() -> None:
    flat, types = Config(defaults()).flat(), dict(hints())
    rows = {name.removeprefix("sizes."): row for name, row in flat.items() if name.startswith("sizes.")}
    columns = rows.pop("hours")
    assert len(rows) > 12 and columns == sorted(columns)
    for name, row in rows.items():
        assert flat[name] == AUTO and len(row) == len(columns), name
        assert all(type(value) is types[name] for value in row), name


def test_a_file_of_a_recipe_is_short() -> None:
    for name in recipe_names():
        assert len(find_recipe(name).file.read_text().splitlines()) <= 80, name


def leaves(values: Mapping[str, Any], path: Tuple[str, ...] = ()) -> Iterator[Tuple[str, ...]]:
    for name, value in values.items():
        if isinstance(value, dict) and (*path, name) != ("corpus", "test"):
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("name", recipe_names())
def test_no_recipe_says_what_holds_without_it(name: str) -> None:
    recipe = find_recipe(name)
    raw = read_toml(recipe.file)
    full = recipe.config().flat()
    said = list(leaves(raw))
    assert len(said) > 4
    idle = []
    for *path, last in said:
        less = copy.deepcopy(raw)
        table = less
        for part in path:
            table = table[part]
        if table.pop(last) == {}:
            continue
        if ("corpus", "train") == (*path, last):
            continue
        if full == Config(defaults()).with_file(recipe.file, layered(less, recipe.file), opens=True).flat():
            idle.append(".".join([*path, last]))
    assert idle == []


def test_no_setting_stands_in_two_tables_of_the_defaults_with_one_value() -> None:
    """A table that is like another says what differs."""
    raw = defaults()
    full = Config(raw).flat()
    idle = []
    for *path, last in leaves(raw):
        less = copy.deepcopy(raw)
        table = less
        for part in path:
            table = table[part]
        del table[last]
        try:
            if Config(less).flat() == full and last != "like":
                idle.append(".".join([*path, last]))
        except ConfigError:
            pass
    # "auto" again, where the size is one of its own and not that of the table that it is like.
    rows = {name.removeprefix("sizes.") for name in full if name.startswith("sizes.")}
    assert [name for name in idle if name not in rows] == ["corpus.test"]  # empty: it is open


def test_the_file_of_defaults_says_why() -> None:
    """Every table has words somewhere; no line is longer than a screen."""
    lines = (PROJECT / "recipes" / "defaults.toml").read_text().splitlines()
    assert len(lines) < 430 and sum("#" in line for line in lines) > 120


def test_noisy_copies_are_made_for_networks_alone(tmp_path: Path) -> None:
    def copies(*settings: str) -> int:
        run = recipe_run(tmp_path / "exp", "augment.noisy_copies=auto", *settings)
        assert run.config["augment.noisy_copies"] == run.settings.augment.noisy_copies
        return int(run.settings.augment.noisy_copies)

    write_json(tmp_path / "exp" / "prepare" / "about.json", {"hours": 0.5})
    assert copies() == 4
    assert copies('decode.systems=["mono", "tri3"]') == 0
    assert copies('decode.systems=["mono", "lfmmi"]') == 4
    assert copies('decode.systems=["mono"]', "augment.noisy_copies=2") == 2


def test_a_training_computes_with_the_threads_of_the_run(tmp_path: Path) -> None:
    for chosen, threads in (("1", 1), ("3", 3), ("0", cores())):
        run = recipe_run(tmp_path / "exp", f"run.threads={chosen}")
        assert trainer_config(run, run.settings.ce.trainer).threads == threads
        assert trainer_config(run, {**run.settings.ce.trainer, "threads": 2}).threads == 2
