"""Augmentation copies, sampled per epoch: an epoch takes some copies of an utterance, the next epoch the next ones.

So there can be many copies (rooms, noises, speeds) and an epoch is as long as with few, and what is clean and what is
noisy can be weighed. A pool holds the copies of one utterance of one kind. Of a pool of n copies epoch e takes the m
copies numbered  (rank + e m + j) mod n,  j = 0 .. m - 1,  rank being the pool's place among all: after
n / gcd(n, m) epochs each copy has been taken as often as every other, and neighbouring pools are at other copies.
"""

from __future__ import annotations

from typing import Dict, Hashable, List, Mapping, Sequence

from hybrid.errors import ConfigError


class CopySampler:
    """Chooses the copies of an epoch.

    pools: for each utterance the pool that it belongs to, (kind, name); units: which copy it is (pieces of one copy
    share theirs); per_epoch: for a kind, how many copies of each of its pools an epoch takes; 0, or no fewer than there
    are: all. Raises ConfigError for a negative number.
    """

    def __init__(
        self, pools: Sequence[Sequence[str]], units: Sequence[Hashable], per_epoch: Mapping[str, int]
    ) -> None:
        for kind, count in per_epoch.items():
            if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                raise ConfigError(
                    f"{count!r} {kind} copies an epoch", remedy="a whole number, or 0 for all that there are"
                )
        self._per_epoch = dict(per_epoch)
        # pool -> copy -> places of its utterances
        self._pools: Dict[Sequence[str], Dict[Hashable, List[int]]] = {}
        for place, (pool, unit) in enumerate(zip(pools, units, strict=True)):
            self._pools.setdefault(tuple(pool), {}).setdefault(unit, []).append(place)

    def __call__(self, epoch: int) -> List[int]:
        """Returns the places of the utterances of epoch `epoch` (from 0), ascending."""
        places: List[int] = []
        for rank, ((kind, *_), copies) in enumerate(self._pools.items()):
            count, members = self._per_epoch.get(kind, 0), list(copies.values())
            if not count or count >= len(members):
                places += [place for member in members for place in member]
                continue
            for j in range(count):
                places += members[(rank + epoch * count + j) % len(members)]
        return sorted(places)
