"""The k highest logits of a frame in a fixed number of bytes, so that a set's array is uint8 [T, B].

Parthasarathi and Strom (2019) keep the 20 highest of 3,000 logits: 51 bytes a frame here.

    bytes                  k < num_pdfs                                        k = num_pdfs
    ceil(k bits / 8)       ids, most significant bit first, best first         none
    k - 1                  values of the others, best first                    num_pdfs values, in pdf order
    2                      mass outside the k, high byte first                 none

bits = ceil(log2 num_pdfs): 3000 needs 12, and 20 of them 30 bytes. With all of them no id and no outside is needed.

Values. A softmax does not change when a constant is added to all logits, so what counts is d = best - value >= 0, and
the best's own 0 is not stored. q = round(255 sqrt(d / R)), R = 40 nats, and back d^ = R (q / 255)^2. With
s = 255 sqrt(d / R) and |s - q| <= 1/2

    |d - d^| = R / 255^2 |s - q| (s + q) <= sqrt(R d) / 255 + R / (4 255^2)          (`quantisation_error`)

0.00015 at d = 0, 0.025 at 1, 0.056 at 5, 0.079 at 10, 0.16 at 40; what is beyond R is kept as R. The order is kept;
close values may become equal. At temperature T every logit's error is divided by T. If p is the exact softmax over the
k at T and e_i are the errors, then KL(p || p^) = log sum_i p_i exp(e_i / T) - sum_i p_i e_i / T: about half the
variance of e / T under p, and never more than (max e - min e)^2 / (8 T^2) (Hoeffding's lemma). Competitors within 10
nats: at most 0.0031 nats at T = 1, 0.0008 at T = 2; what is measured lies far below (benchmarks/targets.py). A clipped
value makes no difference at T = 1 (exp(-40) = 4e-18) and is given a share of exp(-40 / T) of the best's at T.

Mass outside. `rest` = logsumexp(all) - best >= 0, so that exp(value - best - rest) is a senone's posterior at T = 1.
Stored is o = exp(rest) - sum_{i in k} exp(value_i - best), the mass outside relative to the best's, as log o in 65534
steps between -20 and log(num_pdfs) (half a step: 0.02 % of o), 0 being none. Decoding gives
rest^ = log(o^ + sum exp(value^ - best)). Stored itself, `rest` would be exact to 1e-4; but the mass outside, then a
small difference of numbers with the errors above, would be noise, and often negative, where a teacher is sure. So it
is |rest - rest^| <= log sum_i p_i exp(b_i), p_i being the posteriors of the k and the outside, b_i the bounds above.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Tuple

import numpy as np

from hybrid.data.topk import check_k, top_k
from hybrid.errors import ConfigError, DataError, ModelError

__all__ = ["Codec", "Targets", "quantisation_error", "top_k"]

FORMAT = 1
RANGE = 40.0  # nats; R above
MOST_PDFS = 1 << 17  # an id then lies within three bytes, wherever it begins
LOWEST = -20.0  # log of the least mass outside that is told from none
_OUTSIDE_STEPS = 65534
_VALUES = (-RANGE * (np.arange(256) / 255.0) ** 2).astype(np.float32)
_AGAIN = "delete the folder of the targets and write them again"

Targets = Tuple[np.ndarray, np.ndarray, np.ndarray]


def quantisation_error(difference: np.ndarray) -> np.ndarray:
    """Return the most by which a logit `difference` nats below the best, 0 to RANGE, can come back wrong, in nats."""
    return np.sqrt(RANGE * np.asarray(difference)) / 255 + RANGE / (4 * 255**2)


@dataclass(frozen=True)
class Codec:
    """`encode` and `decode` frames of the k highest of num_pdfs logits; k = num_pdfs keeps all. Raises ConfigError."""

    num_pdfs: int
    k: int = 20

    def __post_init__(self) -> None:
        check_k(self.num_pdfs, self.k)
        if self.num_pdfs > MOST_PDFS:
            raise ConfigError(f"{self.num_pdfs} pdfs", remedy=f"at most {MOST_PDFS} can be stored")

    def to_dict(self) -> Dict[str, Any]:
        return {"format": FORMAT, "num_pdfs": self.num_pdfs, "k": self.k}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Codec:
        """Read what `to_dict` returned. Raises ConfigError for another format or a missing number."""
        if values.get("format") != FORMAT:
            raise ConfigError(f"format {values.get('format')!r} of packed targets, this version reads {FORMAT}")
        return cls(values.get("num_pdfs"), values.get("k"))  # type: ignore[arg-type]

    @property
    def keeps_all(self) -> bool:
        return self.k == self.num_pdfs

    @property
    def bits(self) -> int:
        """The bits of an id."""
        return max(1, (self.num_pdfs - 1).bit_length())

    @property
    def id_bytes(self) -> int:
        return 0 if self.keeps_all else (self.k * self.bits + 7) // 8

    @property
    def frame_bytes(self) -> int:
        """The bytes of a frame, B of the packed arrays."""
        return self.num_pdfs if self.keeps_all else self.id_bytes + self.k - 1 + 2

    def encode(self, ids: np.ndarray, values: np.ndarray, rest: np.ndarray) -> np.ndarray:
        """Pack ids int [T, k], values float [T, k] and rest float [T] to uint8 [T, B].

        The three are as `top_k` gives them: highest first, any constant added.
        Raises ModelError for another k, DataError for what no logits can have given.
        """
        self._check_triple(ids, values, rest)
        relative = values.astype(np.float64) - values[:, :1]
        codes = np.rint(255.0 * np.sqrt(np.minimum(-relative, RANGE) / RANGE)).astype(np.uint8)
        if self.keeps_all:
            packed = np.zeros((len(ids), self.num_pdfs), dtype=np.uint8)
            mask = np.zeros(packed.shape, dtype=bool)
            np.put_along_axis(packed, ids, codes, axis=1)
            np.put_along_axis(mask, ids, True, axis=1)
            if not mask.all():
                raise DataError("a pdf stands twice in a frame", remedy="encode what top_k gives")
            return packed
        total, inside = np.exp(rest.astype(np.float64)), np.exp(relative).sum(axis=1)
        outside = total - inside
        if bool((outside < -1e-4 * inside).any()):
            raise DataError("rest is less than the values alone give", remedy="rest is logsumexp(all logits) - best")
        # Bits of the ids, most significant first: [T, k, 32] -> the last `bits` of each, eight to a byte.
        bits = np.unpackbits(ids.astype(">u4").view(np.uint8).reshape(len(ids), self.k, 4), axis=2)[:, :, -self.bits :]
        packed_ids = np.packbits(bits.reshape(len(ids), self.k * self.bits), axis=1)
        tail = self._outside_codes(outside).astype(">u2").view(np.uint8).reshape(-1, 2)
        return np.concatenate([packed_ids, codes[:, 1:], tail], axis=1)

    def decode(self, packed: np.ndarray, k: Optional[int] = None) -> Targets:
        """Unpack uint8 [T, B] to ids int32 [T, k], values float32 [T, k] (the best is 0), rest float32 [T].

        k: fewer than are stored; `rest` is still over all pdfs. Raises DataError where the bytes are not of this codec.
        """
        self.check_wanted(k)
        self.check_packed(packed)
        k = self.k if k is None else k
        codes, outside = self._parts(packed)
        mass = np.exp(_VALUES.astype(np.float64))[codes].sum(axis=1) + outside
        if self.keeps_all:
            # Radix sort of the codes; equal ones stay in the order of their ids.
            ids = np.argsort(codes, axis=1, kind="stable")[:, :k].astype(np.int32)
            return ids, _VALUES[np.take_along_axis(codes, ids, axis=1)], np.log(mass).astype(np.float32)
        values = np.zeros((len(packed), k), dtype=np.float32)
        np.take(_VALUES, codes[:, : k - 1], out=values[:, 1:])
        return self._ids(packed, k), values, np.log1p(mass).astype(np.float32)

    def dense(self, packed: np.ndarray) -> np.ndarray:
        """Return all logits less the best, float32 [T, num_pdfs] in pdf order.

        Raises ConfigError unless all were kept.
        """
        if not self.keeps_all:
            raise ConfigError(f"{self.k} of {self.num_pdfs} logits are stored", remedy="write them with all of them")
        self.check_packed(packed)
        return _VALUES[packed]

    def posterior_entropy(self, ids: np.ndarray, values: np.ndarray, rest: np.ndarray) -> np.ndarray:
        """Return the entropy in nats of the T = 1 posteriors over all pdfs, float32 [T].

        Exact over the k given. The mass outside is taken as spread evenly over the other num_pdfs - k, which no other
        spread exceeds: an upper bound, by at most that mass times log(num_pdfs - k).
        """
        log_posteriors = values.astype(np.float64) - values[:, :1] - rest.astype(np.float64)[:, None]
        posteriors = np.exp(log_posteriors)
        entropy = -(posteriors * log_posteriors).sum(axis=1)
        num_others = self.num_pdfs - ids.shape[1]
        if num_others:
            mass = np.maximum(1.0 - posteriors.sum(axis=1), 1e-30)
            entropy -= mass * np.log(mass / num_others)
        return np.maximum(entropy, 0.0).astype(np.float32)

    def check_wanted(self, k: Optional[int]) -> None:
        """Raises ConfigError unless k is None or from 1 to what is stored."""
        if k is not None and (not isinstance(k, (int, np.integer)) or not 1 <= k <= self.k):
            raise ConfigError(f"{k!r} targets a frame asked for, {self.k} are stored", remedy="write them with more")

    def check_packed(self, packed: np.ndarray) -> None:
        """Raise DataError unless `packed` has the type and width of this codec."""
        if not isinstance(packed, np.ndarray) or packed.dtype != np.uint8 or packed.shape[1:] != (self.frame_bytes,):
            kind = f"{packed.dtype} {list(packed.shape)}" if isinstance(packed, np.ndarray) else type(packed).__name__
            raise DataError(f"{kind} in the place of packed targets uint8 [T, {self.frame_bytes}]", remedy=_AGAIN)

    def _outside_codes(self, outside: np.ndarray) -> np.ndarray:
        high = np.log(self.num_pdfs)
        log_outside = np.log(np.maximum(outside, 1e-30))
        steps = np.rint((np.minimum(log_outside, high) - LOWEST) / (high - LOWEST) * _OUTSIDE_STEPS)
        return np.where(log_outside < LOWEST, 0, 1 + np.maximum(steps, 0))

    def _parts(self, packed: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Codes of the values (all, or all but the best), and the mass outside, float64 [T]."""
        if self.keeps_all:
            return packed, np.zeros(len(packed))
        code = packed[:, -2].astype(np.int32) << 8 | packed[:, -1]
        high = np.log(self.num_pdfs)
        outside = np.exp(LOWEST + (code - 1) * ((high - LOWEST) / _OUTSIDE_STEPS))
        return packed[:, self.id_bytes : -2], np.where(code == 0, 0.0, outside)

    def _ids(self, packed: np.ndarray, k: int) -> np.ndarray:
        """Each id lies in the three bytes that begin where it does; two bytes at least follow the last one's."""
        begin = np.arange(k) * self.bits
        byte = begin // 8
        window = np.take(packed, byte, axis=1).astype(np.int32) << 16
        window |= np.take(packed, byte + 1, axis=1).astype(np.int32) << 8
        window |= np.take(packed, byte + 2, axis=1)
        ids = (window >> (24 - self.bits - begin % 8).astype(np.int32)) & ((1 << self.bits) - 1)
        if ids.size and int(ids.max()) >= self.num_pdfs:
            raise DataError(f"pdf {int(ids.max())} in targets of {self.num_pdfs} pdfs", remedy=_AGAIN)
        return ids

    def _check_triple(self, ids: np.ndarray, values: np.ndarray, rest: np.ndarray) -> None:
        frames = len(ids)
        if ids.shape != (frames, self.k) or values.shape != ids.shape or rest.shape != (frames,):
            raise ModelError(
                f"ids {list(ids.shape)}, values {list(values.shape)}, rest {list(rest.shape)} for {self.k} a frame",
                remedy="take the k of top_k from the codec",
            )
        if ids.dtype.kind not in "iu" or ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < self.num_pdfs:
            raise DataError(f"ids that are not pdfs 0 to {self.num_pdfs - 1}", remedy="model and codec must fit")
        if not (np.isfinite(values).all() and np.isfinite(rest).all()):
            raise DataError("values are not finite", remedy="the teacher diverged on this: leave the utterance out")
        if bool((np.diff(values, axis=1) > 0).any()):
            raise DataError("values do not fall from the first to the last", remedy="encode what top_k gives")
