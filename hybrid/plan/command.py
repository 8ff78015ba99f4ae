"""`hybrid plan`: the numbers given, the rates, the table."""

from __future__ import annotations

import argparse
from typing import Optional

from hybrid.errors import ConfigError
from hybrid.io import write_json
from hybrid.parallel import prepare_environment
from hybrid.plan.assumptions import ASSUMPTIONS, Values


def show_plan(options: argparse.Namespace) -> int:
    """Prints the plan; returns the exit code. Raises ConfigError and DataError before anything is measured."""
    if options.seed < 0:
        raise ConfigError(f"--seed is {options.seed}", remedy="a whole number from 0")
    numbers = {name: getattr(options, f"assume_{name}") for name in ASSUMPTIONS}
    values = Values({name: value for name, value in numbers.items() if value is not None})
    prepare_environment()
    from hybrid.plan.cost import plan
    from hybrid.plan.models import find_model
    from hybrid.plan.rates import Rates, read_rates
    from hybrid.plan.table import as_text

    input_dim, senones = values.whole("input-dim"), values.whole("senones")
    teacher = find_model(options.teacher, input_dim, senones)
    student = find_model(options.student, input_dim, senones)
    rates: Optional[Rates] = None
    if options.rates is not None:
        rates = read_rates(options.rates)
    elif options.measure is not None:
        from hybrid.plan.measure import measure

        on_gpu = values.whole("gpus") > 0
        rates = measure(
            teacher, student, on_gpu=on_gpu, batch=values.whole("batch"), k=values.whole("k"),
            precision=options.precision,
        )  # fmt: skip
        write_json(options.measure, rates.to_dict())
    result = plan(values, teacher, student, rates, seed=options.seed)
    print(as_text(result))
    if options.json is not None:
        write_json(options.json, result.to_dict())
    return 0
