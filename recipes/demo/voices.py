"""Who speaks: eSpeak NG's voice variants, shared out so that no two sets share one.

Relatives (iven and iven2, a voice and its imitation) stay in one set. Whispering, croaking and robot voices are
nobody's, nor are caleb and Reed, whose samples differ from run to run. A variant of train makes several speakers, of
different accent, pitch, pace and vocal tract.
"""

from __future__ import annotations

from typing import Dict, List, Tuple

from hybrid.data.rooms import stable_rng
from hybrid.recipes.demo.synth import Voice

VARIANTS: Dict[str, Tuple[str, ...]] = {
    "train": (
        "Alex", "Andy", "AnxiousAndy", "Denis", "Diogo", "Gene", "Gene2", "Henrique", "Hugo", "Jacky", "Marco", "Mike",
        "mike2", "Mr serious", "Nguyen", "RicishayMax", "RicishayMax2", "adam", "anika", "announcer", "antonio",
        "benjamin", "david", "ed", "edward", "edward2", "f1", "f3", "aunty", "gustave", "ian", "iven", "iven3",
        "m1", "m4", "m6", "marcelo", "michel", "miguel", "paul", "pedro", "rob", "steph", "steph3", "zac", "klatt5",
    ),
    "dev": ("Annie", "f4", "grandma", "m5", "john", "travis", "sandro", "Mario"),
    "test": ("Alicia", "belinda", "f2", "shelby", "grandpa", "Lee", "Michael", "m3", "m7", "robert", "victor", "pablo"),
    "media train": ("Andrea", "f5", "m8", "boris", "quincy", "klatt4"),
    "media test": ("linda", "steph2", "m2", "norbert", "kaukovalta", "klatt3"),
}  # fmt: skip

# Most as in the United States, a good part as in Britain.
_ACCENTS = ("en-us", "en-us", "en-us", "en-us-nyc", "en", "en-gb-x-rp")


def speakers(part: str, seed: int, number: int) -> List[Voice]:
    """Return `number` voices of a part of VARIANTS, each variant used once before any is used again.

    "unlabelled" has the variants of train, in other voices.
    """
    rng = stable_rng("voices", part, seed)
    variants = list(VARIANTS["train" if part == "unlabelled" else part])
    voices: List[Voice] = []
    while len(voices) < number:
        for variant in rng.permutation(variants)[: number - len(voices)]:
            plain = "".join(letter for letter in str(variant).lower() if letter.isalnum())
            voices.append(
                Voice(
                    name=f"{part.replace(' ', '')}{len(voices):03d}{plain}",
                    accent=_ACCENTS[int(rng.integers(len(_ACCENTS)))],
                    variant=str(variant),
                    rate=int(rng.integers(145, 196)),
                    pitch=int(rng.integers(35, 66)),
                    pitch_range=int(rng.integers(35, 81)),
                    warp=round(float(rng.uniform(0.93, 1.07)), 3),
                )
            )
    return voices
