"""`hybrid sweep FILE`: a table of systems over several seeds, each stage made once, and the page about it.

FILE is TOML:

    recipe = "an4"
    title = "Teacher and student"          # of the page; the file's name where it is left out
    set = ["prepare.dev_speakers=8"]       # settings of every run, as `hybrid run --set` takes them
    seeds = [0, 1, 2]                      # [0] where it is left out
    seed_setting = "model.seed"            # the setting that takes them; "seed" is the seed of the whole run (--seed)
    reference = "base/lfmmi"               # RUN/SYSTEM that all changes are relative to; may be left out
    compare = [["wide/ce", "base/ce"]]     # further pairs: change and p of the first against the second
    published = [["LF-MMI against CE", -10.1, -28.7, -19.6]]    # printed beside: words, then a number a condition
                                           # (clean, noisy, rerecorded, all; fewer will do)
    [[run]]
    name = "base"                          # of its folder
    set = []                               # more settings; where two name one setting, the later counts
    seeds = [0]                            # other seeds than the sweep's
    show = ["ce", "lfmmi"]                 # its rows of the table; all that it decodes where it is left out
    labels = {ce = "cross-entropy"}        # words for the table; RUN/SYSTEM where there are none

Settings given with --set on the command line come after those of the file, the seed after all. What is left:

    EXP/RUN/seedN/       an ordinary run's folder, for `hybrid run --exp` and `hybrid report`; EXP is exp/<name of FILE>
    EXP/RUN/seedN.log    what that run printed
    EXP/table.md, table.json, index.html      the same numbers to read, to compute with, to look at

**Sharing.** The first run's first seed is made from nothing. Its other seeds wait for it; a later run waits for the
first run's same seed, or for its first seed where there is no such. Before a run starts, every stage that a run of the
sweep has done with the same fingerprint (settings, seed, inputs, and those of all stages before it: hybrid/stages.py)
is put into its folder as hard links; what differs is made by the run itself (hybrid/sweep/sharing.py).

**The table.** A row is a system of a run over its seeds: WER is their mean, [low, high] the 95 % interval by bootstrap
over utterances of the errors summed over seeds, (lowest..highest) the spread over seeds. A change is that of the errors
summed over the seeds that both sides have, with the 95 % interval of a paired bootstrap and the p of MAPSSWE. Numbers
of a run whose settings are not those of the file any more, or whose decode is not finished, are left out and named.
Scales are chosen on dev; the second table is that of dev, so that choices need not be made on test.

**Running again.** The same command goes on where the last one was stopped. A run that fails does not stop those that
do not wait for it; the table is made of what there is, and the exit code is 1.
"""
