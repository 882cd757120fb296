"""Laws of a 0/1 message: as a verifier that errs reports them, and how far two are apart, in nats.

Divergences are sums of terms >= 0, right where the two laws nearly agree. THEORY.md, section 2.
"""

from typing import NamedTuple

import jax.numpy as jnp

from simrl.measures.sequences import Array, weighted


class Verdict(NamedTuple):
    """Law of a 0/1 message: log-probabilities in nats, of one shape."""

    log_yes: Array
    log_no: Array


def observed(verdict: Verdict, false_positive: Array, false_negative: Array) -> Verdict:
    """The verdict as a verifier with these error rates reports it."""
    log_yes, log_no = verdict
    return Verdict(
        jnp.logaddexp(log_yes + jnp.log1p(-false_negative), log_no + jnp.log(false_positive)),
        jnp.logaddexp(log_yes + jnp.log(false_negative), log_no + jnp.log1p(-false_positive)),
    )


def verifier_divergences(
    passed: Verdict, false_positive: Array, false_negative: Array
) -> tuple[Array, Array]:
    """What the verifier's report tells if the guess is right and if it is wrong, nats.

    `passed`: the belief that it is right. KL of the report's law from that under the belief.
    """
    report = observed(passed, false_positive, false_negative)
    gain = 1.0 - false_positive - false_negative
    if_right = verdict_divergence(
        1.0 - false_negative, false_negative, report, -jnp.exp(passed.log_no) * gain
    )
    if_wrong = verdict_divergence(
        false_positive, 1.0 - false_positive, report, jnp.exp(passed.log_yes) * gain
    )
    return if_right, if_wrong


def verdict_divergence(yes: Array, no: Array, other: Verdict, change: Array) -> Array:
    """KL((yes, no) || other), nats, elementwise; `change` is P(yes) in `other` less `yes`."""
    parts = jnp.broadcast_arrays(yes, no, *other, change, -change)
    law, log_other, changes = (jnp.stack(parts[i : i + 2]) for i in (0, 2, 4))
    return jnp.sum(divergence_terms(law, log_other, changes), axis=0)


def divergence_terms(law: Array, log_other: Array, change: Array) -> Array:
    """q log(q / p) + p - q >= 0 for q of `law` and p of another, nats; +inf where q > 0 = p.

    Over two laws they sum to KL(q || p). `change` is p - q; its relative error, not that of a
    difference of logs, is what remains where the two nearly agree.
    """
    possible = law > 0
    safe = jnp.where(possible, law, 1.0)
    near = possible & (jnp.abs(change) < 0.5 * safe)
    small = law * _log_remainder(jnp.where(near, change, 0.0) / safe)
    return jnp.where(near, small, change + weighted(law, jnp.log(safe) - log_other))


def _log_remainder(x: Array) -> Array:
    """x - log(1 + x) for |x| < 1/2: x z - 2 (z^3 / 3 + z^5 / 5 + ...) with z = x / (2 + x).

    |z| < 1/3: a third of the mantissa's bits is terms enough.
    """
    z = x / (2.0 + x)
    square = z * z
    total = jnp.zeros_like(x)
    for n in range(2 * (jnp.finfo(x.dtype).nmant // 3) + 1, 1, -2):
        total = 1.0 / n + square * total
    return x * z - 2.0 * z * square * total
