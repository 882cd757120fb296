"""Why a learner has no fused path in a world, or by a policy."""

from typing import Any

import jax
import jax.numpy as jnp

from simrl import listing, prefixes
from simrl.types import Environment, Policy

MOST_SYMBOLS = 2**24  # whole numbers that float32 keeps
MOST_LOGITS = 2**13  # of a prompt, rows for prefixes: of 10,000 these are no quicker than plain
MOST_RIGHT = 64  # answers of several symbols: each is compared with each, symbol by symbol


def obstacle(environment: Environment, policy: Policy, by_prefix: bool = False) -> str | None:
    """Why a learner has no fused path in this world; None if it has one.

    `by_prefix`: it takes policies with rows for prefixes.
    """
    num_prompts, length, vocab_size = environment.shape
    reasons = {
        "the policy must be a table read by inverse CDF": not policy.inverts,
        "label and reward must take trailing axes": not environment.trailing,
        "tasks of several prompts must have them on the first axis": num_prompts > 1
        and not environment.by_prompt,
        f"there must be at most {MOST_SYMBOLS} symbols": vocab_size > MOST_SYMBOLS,
        f"there must be at most {MOST_SYMBOLS} prompts": num_prompts > MOST_SYMBOLS,
        f"at most {MOST_RIGHT} answers of several symbols must be right, out of {MOST_SYMBOLS}": (
            environment.right is not None and not _are_few(environment)
        ),
        "the learner must take rows for prefixes": policy.by_prefix and not by_prefix,
        "rows for prefixes need one right answer": policy.by_prefix
        and environment.right is not None,
        f"rows for prefixes must have at most {MOST_LOGITS} logits": policy.by_prefix
        and vocab_size * prefixes.num_rows(length, vocab_size) > MOST_LOGITS,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _are_few(environment: Environment) -> bool:
    """Whether the right answers, where there are several, are few enough, and have numbers."""
    right: Any = environment.right
    shape = jax.eval_shape(lambda: right(environment.init(jax.random.key(0)), jnp.int32(0))).shape
    short = environment.shape.length == 1 or shape[0] <= MOST_RIGHT
    return short and listing.num_answers(environment.shape) <= MOST_SYMBOLS
