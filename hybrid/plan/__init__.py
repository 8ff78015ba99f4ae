"""What a training on up to a million hours costs, before anything is run: disk, GPU-hours, days, network traffic.

    assumptions.py   every number that a plan rests on, with its unit and where it comes from
    models.py        parameters and floating-point operations of a network, from its settings
    network.py       seconds of an all-reduce and an all-gather on a ring; bandwidth and latency from measured points
    methods.py       what DDP, GTC and BMUF send, and how long the others wait for it
    simulate.py      a step's time on N workers that are not equally fast, and the efficiency
    cost.py          the plan; table.py prints it
    rates.py         what was measured, as JSON; measure.py measures it

After Parthasarathi and Strom (ICASSP 2019), "Lessons from building acoustic models with a million hours of speech".
Command line: options.py, command.py (`hybrid plan`).
"""
