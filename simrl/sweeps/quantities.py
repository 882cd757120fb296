"""Quantities of the tables: which sums they are ratios of, and why one may not be defined."""

RATIOS = {  # column -> (numerator, denominator, units), of sums over a phase
    "pass_rate": ("pass_rate", "trajectories", "1"),
    **{
        f"{column}{form}": (numerator, denominator, units)
        for form, denominator, units in (
            ("", "samples", "bit/sample"),
            ("_per_token", "tokens", "bit/token"),
            ("_per_trajectory", "trajectories", "bit/trajectory"),
            ("_per_update", "updates", "bit/update"),
        )
        for column, numerator in (
            ("nominal", "nominal"),
            ("expected", "expected"),
            ("realised", "realised"),
            ("expected_joint", "expected_update"),
            ("realised_joint", "realised_update"),
            ("absorbed", "absorbed"),
        )
    },
    "absorbed_label": ("absorbed_label", "samples", "bit/sample"),
    "excess_loss": ("gap", "trajectories", "bit"),
    "efficiency": ("absorbed", "realised_update", "1"),
    "noise_scale": ("trace_covariance_of_one", "squared_norm", "trajectories"),
    "squared_bias": ("squared_bias", "trajectories", "1"),
    "regret": ("regret", "trajectories", "1"),
    "information_ratio": ("squared_expected_regret", "information_gain", "1/bit"),
    "duel_win_rate": ("duel_wins", "duels", "1"),
    "duel_expected": ("duel_expected", "trajectories", "bit/duel"),
    "duel_realised": ("duel_realised", "trajectories", "bit/duel"),
    "dead_share": ("dead", "trajectories", "1"),
    "samples_per_flop": ("samples", "flops", "samples/FLOP"),
    "samples_per_flop_counted": ("samples", "flops_counted", "samples/FLOP"),
    "absorbed_per_flop": ("absorbed", "flops", "bit/FLOP"),
    "absorbed_per_flop_counted": ("absorbed", "flops_counted", "bit/FLOP"),
    "realised_per_flop": ("realised_update", "flops", "bit/FLOP"),
    "realised_per_flop_counted": ("realised_update", "flops_counted", "bit/FLOP"),
}
OF_ONE = {"trace_covariance_of_one": "trace_covariance"}  # of a batch of one trajectory
CURVE_RATIOS = {name: RATIOS[name] for name in ("noise_scale", "information_ratio")}
# None of them lies outside 0 ... 1, so no more does an interval: what it covers stays covered.
SHARES = {"pass_rate", "observed_pass_rate", "zero_share", "dead_share", "duel_win_rate"}
UNDEFINED = {  # stored sum -> why a cell does not have it
    **dict.fromkeys(
        ("expected", "realised"),
        "what the rewards tell is not known: an own Environment may name its channel",
    ),
    **dict.fromkeys(
        ("expected_update", "realised_update"), "the information of an update has no closed form"
    ),
    **dict.fromkeys(("nominal", "absorbed"), "the learner has no policy distribution"),
    "gap": "needs noisy labels",
    "absorbed_label": "needs supervised learning from noisy labels",
    **dict.fromkeys(
        ("trace_covariance", "squared_norm"),
        "the gradient's moments have no closed form here: see curve_table",
    ),
    "squared_bias": 'not measured: measures=("bias",)',
    "regret": 'not measured: measures=("regret",)',
    **dict.fromkeys(
        ("squared_expected_regret", "information_gain"),
        'not measured: measures=("information_ratio",)',
    ),
    **dict.fromkeys(
        ("duels", "duel_wins", "duel_expected", "duel_realised"),
        'not measured: measures=("duel",)',
    ),
}

# Of fewer seeds that visit a phase, an interval may cover less than .93 of the time. Where some
# seeds stay in it for long, they make up most of its updates and so of two of the ratios, whose
# intervals then cover .27 at 8 seeds and .86 at 200: `python -m experiments.coverage`.
FEW_SEEDS = 200
FEW_SEEDS_OF = {"pass_rate": 1000, "noise_scale": 1000}


def enough_seeds(quantity: str) -> int:
    """Returns the number of seeds from which the interval of a phase covers what it says."""
    return FEW_SEEDS_OF.get(quantity, FEW_SEEDS)
