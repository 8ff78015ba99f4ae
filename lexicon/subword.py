"""Lexicons for a corpus without a pronunciation dictionary: letters as phones, and pieces of words as units.

Letters as phones. A word is pronounced as it is spelled, each letter (or digit) a phone, in lower case: the tree of
context-dependent phones learns what a letter sounds like beside its neighbours (M. Killer, S. Stüker and T. Schultz,
"Grapheme based speech recognition", Eurospeech 2003). What is no letter (an apostrophe, a hyphen) has no sound of its
own and is written with the letter before it; combining marks belong to their letter, and make it another phone.

Pieces. The units of lexicon and grammar are the pieces of a sentencepiece model (T. Kudo, "Subword regularization",
ACL 2018, the unigram model), and words that training never saw can be put together from them. A piece that begins
with the mark ▁ begins a word:

    A COOKIE   ->   ▁A ▁COO K I E   ->   A COOKIE

L (lexicon/fst.py) lets silence stand before such pieces and at the end alone, and gives phones their position in the
word, not in the piece.

What is changed in the model that sentencepiece trains. It spells rare words with single characters, the mark being
one of them; but a piece needs a sound of its own. So of its pieces the mark alone is taken out, and all others
without a letter; and for each letter x of the text come x and ▁x (with the apostrophes that the text writes behind
them), so that every word of known letters has its pieces. The log probability of a piece that comes in is the sum of
those of its characters, as if it had been spelled with them.
"""

from __future__ import annotations

import io
import struct
import unicodedata
from typing import Any, Callable, Dict, Iterable, Iterator, List, Sequence, Tuple, Union

from hybrid.errors import ConfigError, DataError, MissingDependency, ModelError
from hybrid.io import PathLike, atomic_write
from hybrid.lexicon.lexicon import FILLERS, Lexicon, Pronunciation, is_reserved
from hybrid.lexicon.reader import VARIANT
from hybrid.lexicon.transcript import is_note

MARK = "\u2581"  # ▁, sentencepiece's blank
_NORMAL, _UNKNOWN = 1, 2  # types of pieces in sentencepiece_model.proto

Pronounce = Callable[[str], Iterable[Union[str, Sequence[str], Pronunciation]]]


def atoms(word: str) -> List[str]:
    """Split a word into its letters, each with what is written behind it: DON'T -> D O N' T; 'TIS -> 'T I S.

    Raises DataError for a word without a letter, one in brackets (a noise, no word), and one that holds the mark.
    """
    letters: List[str] = []
    prefix = ""
    for character in word:
        if unicodedata.category(character)[0] in "LN":
            letters.append(prefix + character)
            prefix = ""
        elif letters:
            letters[-1] += character
        else:
            prefix += character
    if not letters or MARK in word or is_note(word):
        what = "has no letter" if not letters else f"holds {MARK}" if MARK in word else "is in brackets, as noises are"
        raise DataError(
            f"the word {word} {what}: it cannot be spelled",
            remedy="take it out of the transcripts, or write it in letters",
        )
    return letters


def spell(word: str) -> Tuple[str, ...]:
    """Return the phones of a word spelled in letters: Don't -> d o n t. Raises DataError as `atoms`."""
    phones = []
    for atom in atoms(word):
        letter = "".join(character for character in atom if unicodedata.category(character)[0] in "LNM")
        phones.append(unicodedata.normalize("NFC", letter).lower())
    return tuple(phones)


def graphemic_lexicon(words: Iterable[str]) -> Lexicon:
    """Make a lexicon of every word once, sorted, spelled in letters. Raises DataError as `atoms`."""
    return piece_lexicon(words, lambda word: [spell(word)])


def piece_lexicon(pieces: Iterable[str], pronounce: Pronounce) -> Lexicon:
    """Make the lexicon of the pieces, sorted: `pronounce` gets the letters of each, without the mark, and returns its
    pronunciations, whatever makes them (`spell`, a dictionary, a grapheme-to-phoneme model).

    Raises DataError for a piece that has none.
    """
    table: Dict[str, List[Any]] = {}
    for piece in sorted(set(pieces)):
        table[piece] = list(pronounce(piece[piece.startswith(MARK) :]))
        if not all(item.phones if isinstance(item, Pronunciation) else item for item in table[piece] or [""]):
            raise DataError(
                f"the piece {piece} has no pronunciation, or an empty one",
                remedy="train fewer or more pieces, or let its pronunciations be of one phone at least",
            )
    return Lexicon.from_dict(table)


def join(pieces: Iterable[str]) -> List[str]:
    """Return the words that pieces spell: ▁A ▁COO K I E -> A COOKIE.

    The first piece begins a word whether marked or not.
    """
    words: List[str] = []
    for piece in pieces:
        if piece.startswith(MARK) or not words:
            words.append(piece[piece.startswith(MARK) :])
        else:
            words[-1] += piece
    return words


class Pieces:
    """A sentencepiece model whose every piece has a letter.

    model   the bytes of its file
    names   the pieces, the most frequent first, without <unk>
    """

    def __init__(self, model: bytes) -> None:
        """Raises ModelError for bytes that are no sentencepiece model, MissingDependency without sentencepiece."""
        self.model = model
        self._processor: Any = None
        self._words: Dict[str, List[str]] = {}
        processor = self._load()
        self.names: List[str] = [
            processor.id_to_piece(number)
            for number in range(processor.get_piece_size())
            if not processor.is_unknown(number) and not processor.is_control(number)
        ]
        self._name_set = frozenset(self.names)

    @classmethod
    def train(cls, texts: Iterable[str], size: int) -> Pieces:
        """Train on transcripts. `size` is sentencepiece's vocabulary, <unk> and ▁ included; short texts give fewer
        pieces, and what every word needs comes on top (see above). The same texts and size give the same bytes.

        Raises ConfigError for a size below the number of characters, DataError for texts without a word and as
        `atoms`, MissingDependency without sentencepiece.
        """
        sentences = [" ".join(word for word in text.split() if word not in FILLERS) for text in texts]
        words = {word for sentence in sentences for word in sentence.split()}
        if not words:
            raise DataError("no word to train pieces on", remedy="give the transcripts of the training set")
        needed = needed_pieces(words)
        min_size = len({character for word in words for character in word}) + 2
        if size < min_size:
            raise ConfigError(
                f"{size} pieces for a text of {min_size - 2} different characters",
                remedy=f"give {min_size} or more (lang.pieces); some hundreds to thousands are usual",
            )
        writer = io.BytesIO()
        try:
            _sentencepiece().SentencePieceTrainer.train(
                sentence_iterator=iter([sentence for sentence in sentences if sentence]),
                model_writer=writer,
                vocab_size=size,
                model_type="unigram",
                hard_vocab_limit=False,  # else a text that cannot give so many is an error
                character_coverage=1.0,
                normalization_rule_name="identity",  # words come back as they were written
                split_by_unicode_script=False,
                split_by_number=False,
                max_sentence_length=1 << 24,  # bytes; longer ones are left out without a word
                unk_id=0,
                bos_id=-1,
                eos_id=-1,
                pad_id=-1,
                num_threads=1,  # sums in one order
                minloglevel=2,
            )
        except (RuntimeError, OSError) as error:
            raise DataError(
                f"sentencepiece cannot train on these transcripts: {error}", remedy="give another number of lang.pieces"
            ) from error
        return cls(_rewrite(writer.getvalue(), needed))

    def covers(self, word: str) -> bool:
        """Return whether the word can be written in pieces: whether its letters are known."""
        return MARK not in word and self._name_set.issuperset(self._split(word))

    def encode(self, word: str) -> List[str]:
        """Return the pieces of one word, the most probable ones. Raises DataError where `covers` is false."""
        if not self.covers(word):
            unknown_pieces = [piece for piece in self._split(word) if piece not in self._name_set]
            raise DataError(
                f"the word {word} cannot be written in pieces: no training transcript has "
                f"{' '.join(unknown_pieces) or MARK}",
                remedy="correct the transcript, or train the pieces on text that has these letters",
            )
        return list(self._split(word))

    def _split(self, word: str) -> List[str]:
        if word not in self._words:
            self._words[word] = list(self._load().encode(word, out_type=str))
        return self._words[word]

    def _load(self) -> Any:
        if self._processor is None:
            processor = _sentencepiece().SentencePieceProcessor()
            try:
                if not self.model:
                    raise RuntimeError("it is empty")
                processor.LoadFromSerializedProto(self.model)
            except RuntimeError as error:
                raise ModelError("not a sentencepiece model", remedy="run the lang stage again") from error
            self._processor = processor
        return self._processor

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pieces) and self.model == other.model

    def __len__(self) -> int:
        return len(self.names)

    def __getstate__(self) -> Dict[str, Any]:
        return {**self.__dict__, "_processor": None, "_words": {}}

    def save(self, path: PathLike) -> None:
        """Write the model in sentencepiece's own format."""
        with atomic_write(path) as stream:
            stream.write(self.model)

    @classmethod
    def load(cls, path: PathLike) -> Pieces:
        """Read what `save` wrote. Raises DataError for a missing file, ModelError for one that is something else."""
        try:
            with open(path, "rb") as stream:
                return cls(stream.read())
        except FileNotFoundError:
            raise DataError("no such file", file=path, remedy="run the lang stage again") from None
        except ModelError as error:
            raise ModelError(error.what, file=path, remedy=error.remedy) from error


def needed_pieces(words: Iterable[str]) -> List[str]:
    """Return the pieces without which some word of the same letters could not be written, sorted.

    Of A'S come A' ▁A' S ▁S.
    """
    pieces = set()
    for word in words:
        for atom in atoms(word):
            pieces.add(MARK + atom)
            if unicodedata.category(atom[0])[0] in "LN":  # else it begins a word
                pieces.add(atom)
    return sorted(pieces)


def _usable(piece: str) -> bool:
    """Has a letter, does not tear a combining mark from its letter, and is not named like a symbol of the graphs."""
    try:
        atoms(piece[piece.startswith(MARK) :])
    except DataError:
        return False
    torn = unicodedata.category(piece[0])[0] == "M"
    return not (torn or is_reserved(piece) or VARIANT.match(piece))


def _rewrite(model: bytes, needed: Iterable[str]) -> bytes:
    """The model with the usable of its pieces and the `needed` ones.

    It is a protocol buffer (sentencepiece_model.proto): field 1, repeated, holds the pieces, each of them a message
    with 1: text, 2: score (a float), 3: type; the other fields are kept as they are.
    """
    pieces: Dict[str, Tuple[float, int]] = {}
    other_fields = b""
    for number, value, field_bytes in _fields(model):
        if number != 1 or not isinstance(value, bytes):
            other_fields += field_bytes
            continue
        parts = {field: content for field, content, _ in _fields(value)}
        pieces[parts[1].decode("utf-8")] = (struct.unpack("<f", parts[2])[0], parts.get(3, _NORMAL))
    scores = {piece: score for piece, (score, kind) in pieces.items() if kind == _NORMAL}
    floor = min(scores.values())
    new_scores = {piece: score for piece, score in scores.items() if _usable(piece)}
    for piece in needed:
        new_scores.setdefault(piece, sum(scores.get(character, floor) for character in piece))
    unknown_pieces = [(name, score, kind) for name, (score, kind) in pieces.items() if kind == _UNKNOWN]
    ordered = sorted(new_scores.items(), key=lambda pair: (-pair[1], pair[0]))
    encoded = b""
    for name, score, kind in unknown_pieces + [(name, score, _NORMAL) for name, score in ordered]:
        text = name.encode("utf-8")
        body = b"\x0a" + _varint(len(text)) + text + b"\x15" + struct.pack("<f", score) + b"\x18" + _varint(kind)
        encoded += b"\x0a" + _varint(len(body)) + body
    return encoded + other_fields


def _fields(message: bytes) -> Iterator[Tuple[int, Any, bytes]]:
    """(field number, value, all its bytes) of a protocol buffer; varints as int, others as bytes."""
    position = 0
    while position < len(message):
        begin = position
        key, position = _read_varint(message, position)
        kind = key & 7
        value: Any
        if kind == 0:
            value, position = _read_varint(message, position)
        else:
            size, position = _read_varint(message, position) if kind == 2 else ({1: 8, 5: 4}[kind], position)
            value, position = message[position : position + size], position + size
        yield key >> 3, value, message[begin:position]


def _read_varint(data: bytes, position: int) -> Tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value, shift, position = value | (byte & 127) << shift, shift + 7, position + 1
        if byte < 128:
            return value, position


def _varint(value: int) -> bytes:
    encoded = b""
    while value > 127:
        encoded, value = encoded + bytes([value & 127 | 128]), value >> 7
    return encoded + bytes([value])


def _sentencepiece() -> Any:
    try:
        import sentencepiece
    except ImportError:
        raise MissingDependency("pieces need sentencepiece", remedy="pip install sentencepiece") from None
    return sentencepiece


