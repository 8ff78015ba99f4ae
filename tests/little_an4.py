"""Some speakers of AN4, in the layout of the whole."""

from __future__ import annotations

import re
from pathlib import Path


def little_an4(shared_data: Path, root: Path, speakers: int) -> Path:
    """So many training speakers and one test speaker, some noises, the rooms of dev and test: links, and lists."""
    for name, folder, number in (("train", "an4_clstk", speakers), ("test", "an4test_clstk", 1)):
        real = shared_data / "an4" / "wav" / folder
        names = sorted(path.name for path in real.iterdir() if path.is_dir())[:number]
        (root / "an4" / "wav" / folder).mkdir(parents=True)
        (root / "an4" / "wav" / folder / "circle").symlink_to(root / "an4" / "wav")
        for speaker in names:
            (root / "an4" / "wav" / folder / speaker).symlink_to(real / speaker)
        etc = root / "an4" / "etc"
        etc.mkdir(exist_ok=True)
        for kind, pattern in (("transcription", r"\(\w+-(\w+)-\w+\)"), ("fileids", r"/(\w+)/")):
            lines = (shared_data / "an4" / "etc" / f"an4_{name}.{kind}").read_text().splitlines()
            kept = [line for line in lines if re.search(pattern, line)[1] in names]
            (etc / f"an4_{name}.{kind}").write_text("\n".join(kept) + "\n")
    for name in ("an4.dic", "an4.ug.lm"):
        (etc / name).symlink_to(shared_data / "an4" / "etc" / name)
    for part in ("noise/train", "noise/test"):
        for kind in sorted(path for path in (shared_data / part).iterdir() if path.is_dir()):
            (root / part / kind.name).mkdir(parents=True)
            for file in sorted(kind.glob("*.flac"))[:2]:
                (root / part / kind.name / file.name).symlink_to(file)
    for part in ("rir/dev", "rir/test"):
        (root / part).parent.mkdir(exist_ok=True)
        (root / part).symlink_to(shared_data / part)
    return root
