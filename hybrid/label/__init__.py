"""`hybrid label`: a teacher's soft targets for many manifests, each by itself, by processes or a Dask cluster; and
`hybrid pack`: training shards of such targets and the features of the same speech, or of noisy copies of it.

    OUT/NAME/                   of the manifest NAME.jsonl.gz: targets, as targets.py says; or shards, as packing.py
    OUT/NAME.problems.jsonl     cuts that have none, and why
    OUT/label.json, pack.json   what became of all, and (label) what the targets are

A manifest of cuts is the piece of work: one process reads its audio, computes features as the teacher was trained on,
takes off the means of its speakers (of this manifest: cut manifests by speaker where that is how the teacher's input is
normalised), and writes. What is whole is not computed again: the same command goes on after a kill, and two that are
given different manifests do not disturb each other. A manifest fits into memory, of some hours of speech.
"""
