"""JSGF: the Java Speech Grammar Format, version 1.0 (Sun Microsystems, 1998; W3C note of 2000), as expressions.

    #JSGF V1.0 UTF-8 en;
    grammar lights;
    public <command> = [please] (turn | switch /0.5/ on | /0.5/ off) [the] <room>+ {what} ;   // and /* so */
    <room> = kitchen | "living room" | <NULL>;

What is read: rules, public or not; sequences, alternatives with weights, groups, options, * and +, quoted words, tags,
<NULL>, <VOID>, references by full name (<lights.room>), comments. Tags {...} are accepted and ignored: a grammar
gives words, and what they mean is for who reads the words. Imports are refused, for a grammar is one file here.

    file        := ["#JSGF" ... ";"] ["grammar" NAME ";"] rule*
    rule        := ["public"] "<" NAME ">" "=" alternatives ";"
    alternatives:= [weight] sequence ("|" [weight] sequence)*
    sequence    := (atom ["*" | "+"] tag*)+
    atom        := WORD | "quoted words" | "<" NAME ">" | "(" alternatives ")" | "[" alternatives "]"

Files are strangers': groups may nest DEPTH deep and a file have SIZE characters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, NamedTuple, NoReturn, Optional, Tuple, Union

from hybrid.errors import DataError

DEPTH, SIZE = 50, 5_000_000


@dataclass(frozen=True)
class Word:
    text: str
    line: int


@dataclass(frozen=True)
class Rule:
    """A reference to a rule, by its name without its grammar's."""

    name: str
    line: int


@dataclass(frozen=True)
class Sequence:
    parts: Tuple[Expression, ...]


@dataclass(frozen=True)
class Alternatives:
    """weights: one each, or None where the file gives none."""

    parts: Tuple[Expression, ...]
    weights: Optional[Tuple[float, ...]] = None


@dataclass(frozen=True)
class Repeat:
    """part `least` (0 or 1) times or more; `more` False: once at most."""

    part: Expression
    least: int
    more: bool = True


@dataclass(frozen=True)
class Nothing:
    """No word, or, `possible` False, what cannot be said (<VOID>)."""

    possible: bool = True


Expression = Union[Word, Rule, Sequence, Alternatives, Repeat, Nothing]


@dataclass(frozen=True)
class Grammar:
    """rules by name; public: those that an utterance can be, in the file's order; file: for errors."""

    rules: Dict[str, Expression]
    public: Tuple[str, ...]
    file: Optional[str] = None


class _Token(NamedTuple):
    kind: str
    text: str
    line: int


_TOKEN = re.compile(
    r"""(?P<blank>\s+ | //[^\n]* | /\*.*?\*/)
      | (?P<rule><[^<>\n]*>)
      | (?P<quoted>"(?:[^"\\\n]|\\.)*")
      | (?P<tag>\{(?:[^{}\\]|\\.)*\})
      | (?P<weight>/\s*[-+.\w]+\s*/)
      | (?P<sign>[=|;()\[\]*+])
      | (?P<word>[^\s=|;()\[\]*+<>{}"/\\]+)""",
    re.VERBOSE | re.DOTALL,
)
_HEADER = re.compile(r"\s*#JSGF\s+V(\S+?)(\s[^;\n]*)?;")


def is_jsgf(text: str) -> bool:
    """Return whether a text says that it is a JSGF grammar."""
    return text.lstrip("\ufeff \t\r\n").startswith("#JSGF")


def parse(text: str, file: Optional[Union[str, Path]] = None) -> Grammar:
    """Parse a grammar.

    Raises DataError, naming file and line, for what is not JSGF, imports, a rule that is defined twice or not at all,
    no public rule, and a file or a nesting beyond the limits.
    """
    return _Parser(text.lstrip("\ufeff"), None if file is None else str(file)).grammar()


class _Parser:
    def __init__(self, text: str, file: Optional[str]) -> None:
        self.file = file
        self.name = ""
        if len(text) > SIZE:
            self.fail(f"a grammar of {len(text)} characters", "give one of 5 million at most")
        header = _HEADER.match(text)
        if header is None and is_jsgf(text):
            self.fail("line 1: a header that does not end", "write: #JSGF V1.0;")
        start = 0 if header is None else header.end()
        self.references: List[Rule] = []
        self.tokens = self.split(text, start)
        self.place = 0

    def fail(self, what: str, remedy: str) -> NoReturn:
        raise DataError(what, file=self.file, remedy=remedy)

    def split(self, text: str, place: int) -> List[_Token]:
        tokens, line = [], 1 + text.count("\n", 0, place)
        while place < len(text):
            match = _TOKEN.match(text, place)
            if match is None:
                kind = {"<": "a rule's name", '"': "a quoted word", "{": "a tag", "/": "a comment or a weight"}
                found = text[place]
                what = f"{kind[found]} that does not end" if found in kind else f"{found!r} cannot stand here"
                self.fail(f"line {line}: {what}", "mend the grammar")
            kind_of = str(match.lastgroup)
            if kind_of != "blank":
                tokens.append(_Token(kind_of, match.group(), line))
            line += match.group().count("\n")
            place = match.end()
        tokens.append(_Token("end", "the end of the file", line))
        return tokens

    def next(self) -> _Token:
        token = self.tokens[self.place]
        self.place += token.kind != "end"
        return token

    @property
    def ahead(self) -> _Token:
        return self.tokens[self.place]

    def expect(self, sign: str, after: str) -> None:
        token = self.next()
        if token.text != sign or token.kind != "sign":
            self.fail(f"line {token.line}: {token.text} where {after} wants {sign}", "mend the grammar")

    def grammar(self) -> Grammar:
        rules: Dict[str, Expression] = {}
        public: List[str] = []
        while self.ahead.kind != "end":
            token = self.next()
            if token == ("word", "grammar", token.line) and not rules and not self.name:
                self.name = self.next().text
                self.expect(";", "the name of the grammar")
                continue
            if token == ("word", "import", token.line):
                self.fail(f"line {token.line}: an import of {self.ahead.text}", "copy its rules into this file")
            is_public = token == ("word", "public", token.line)
            name = self.next() if is_public else token
            if name.kind != "rule":
                self.fail(f"line {name.line}: {name.text} where a rule begins", "write: <name> = words ;")
            self.expect("=", f"the rule {name.text}")
            key = self.local(name)
            if key in rules or key in ("NULL", "VOID"):
                self.fail(f"line {name.line}: the rule <{key}> is defined already", "give it another name")
            rules[key] = self.alternatives(0)
            self.expect(";", f"the rule {name.text}")
            public += [key] * is_public
        for reference in self.references:
            if reference.name not in rules:
                self.fail(f"line {reference.line}: the rule <{reference.name}> is not defined", "mend its name")
        if not public:
            self.fail("no public rule", "write `public` before the rule that an utterance can be")
        return Grammar(rules, tuple(public), self.file)

    def local(self, token: _Token) -> str:
        """The name of a rule without that of this grammar."""
        name = token.text[1:-1].strip()
        package, _, last = name.rpartition(".")
        if not last or (package and package not in (self.name, self.name.rpartition(".")[2])):
            what = f"{token.text} is of another grammar" if last else "a rule without a name"
            self.fail(f"line {token.line}: {what}", "name a rule of this file")
        return last

    def alternatives(self, depth: int) -> Expression:
        if depth > DEPTH:
            self.fail(f"line {self.ahead.line}: groups nested more than {DEPTH} deep", "name the inner ones as rules")
        parts: List[Expression] = []
        weights: List[float] = []
        given = False
        line = self.ahead.line
        while True:
            weight = 1.0
            if self.ahead.kind == "weight":
                weight, given = self.weight(self.next()), True
            weights.append(weight)
            parts.append(self.sequence(depth))
            if self.ahead.text != "|" or self.ahead.kind != "sign":
                break
            self.next()
        if not sum(weights) > 0:
            self.fail(f"line {line}: alternatives whose weights are all 0", "give one of them a weight above 0")
        if len(parts) == 1:
            return parts[0]
        return Alternatives(tuple(parts), tuple(weights) if given else None)

    def weight(self, token: _Token) -> float:
        try:
            value = float(token.text.strip("/ \t"))
        except ValueError:
            value = -1.0
        if not 0 <= value < 1e30:
            self.fail(f"line {token.line}: the weight {token.text}", "give a number, 0 or more, between strokes: /0.5/")
        return value

    def sequence(self, depth: int) -> Expression:
        parts: List[Expression] = []
        while True:
            token = self.ahead
            if token.kind == "tag":
                self.next()
                continue
            if token.kind not in ("word", "quoted", "rule") and token.text not in ("(", "["):
                break
            part = self.atom(self.next(), depth)
            while self.ahead.kind == "sign" and self.ahead.text in "*+":
                part = Repeat(part, int(self.next().text == "+"))
            parts.append(part)
        if not parts:
            self.fail(f"line {token.line}: {token.text} where a word should be", "write <NULL> for no word")
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def atom(self, token: _Token, depth: int) -> Expression:
        if token.kind == "word":
            return Word(token.text, token.line)
        if token.kind == "quoted":
            words = [Word(text, token.line) for text in re.sub(r"\\(.)", r"\1", token.text[1:-1]).split()]
            return Sequence(tuple(words)) if words else Nothing()
        if token.kind == "rule":
            name = self.local(token)
            if name in ("NULL", "VOID"):
                return Nothing(name == "NULL")
            self.references.append(Rule(name, token.line))
            return self.references[-1]
        inner = self.alternatives(depth + 1)
        self.expect(")" if token.text == "(" else "]", f"the {token.text} of line {token.line}")
        return inner if token.text == "(" else Repeat(inner, 0, more=False)
