"""Whether positions of a policy's answers depend on each other, and what can be measured if so.

Positions are independent if `log_probs` does not read its answer: then one call gives the law of
every answer. Else the laws of all answers are enumerated where there are few; where there are many
only the probability of a given answer is known, by one teacher-forced pass.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

from simrl import listing, primitives
from simrl.types import Array, Params, Policy, Shape, TeacherForced

MAX_ENUMERATED = 4096  # answers V^L to one prompt: a forward pass for each prefix of L - 1 symbols

MAX_AT_ONCE = 256  # forward passes whose activations are held in memory together


def completed(policy: Policy, shape: Shape) -> Policy:
    """Returns a dependent policy with what measures need of it.

    It gets a `listed` by enumeration where V^L is at most MAX_ENUMERATED, and becomes a
    `TeacherForced` one otherwise.
    """
    few = listing.num_answers(shape) <= MAX_ENUMERATED and not listing.problems(shape, "")
    if few:
        return policy._replace(listed=enumerated(policy, shape))
    return TeacherForced(*policy)


def is_dependent(policy: Policy, shape: Shape) -> bool:
    """Returns whether positions depend on each other and the policy does not say how (`listed`)."""
    if policy.tabular or policy.listed is not None or isinstance(policy, TeacherForced):
        return False
    return reads_answer(policy, shape)


def reads_answer(policy: Policy, shape: Shape) -> bool:
    """Returns whether `log_probs` reads its answer: by its jaxpr, without a number computed.

    The law of the only position of one-token answers cannot depend on them.
    """
    if shape.length == 1:
        return False
    params = jax.eval_shape(policy.init, jax.eval_shape(lambda: jax.random.key(0)))
    prompt = jax.ShapeDtypeStruct((), jnp.int32)
    answer = jax.ShapeDtypeStruct((shape.length,), jnp.int32)
    return reads_last(policy.log_probs, params, prompt, answer)


def reads_last(function: Callable, *arguments: Any) -> bool:
    """Returns whether any result of a function is computed from its last argument, an array.

    One that is read to no effect (times 0) counts as read.
    """
    program = jax.make_jaxpr(function)(*arguments).jaxpr
    reads = [False] * (len(program.invars) - 1) + [True]
    return any(_reached(program, reads))


def _reached(jaxpr: Any, reads: Sequence[bool]) -> list[bool]:
    """Which results of a jaxpr are computed from those of its arguments that are marked.

    Programs that are called are looked into; of loops and branches every result counts as computed
    from every argument.
    """
    marked = {var for var, read in zip(jaxpr.invars, reads, strict=True) if read}
    for equation in jaxpr.eqns:
        before = [not isinstance(x, Literal) and x in marked for x in equation.invars]
        if not any(before):
            continue
        called = primitives.program_of(equation)
        after = [True] * len(equation.outvars) if called is None else _reached(called[0], before)
        marked |= {var for var, read in zip(equation.outvars, after, strict=True) if read}
    return [not isinstance(x, Literal) and x in marked for x in jaxpr.outvars]


def enumerated(policy: Policy, shape: Shape) -> Callable[[Params, Array], Array]:
    """Returns `Policy.listed` by the chain rule: one `log_probs` for each prefix of L - 1 symbols.

    Its result [V^L] has the log-probabilities, nats, of all answers by their numbers.
    """
    _, length, vocab_size = shape
    num_prefixes = vocab_size ** (length - 1)

    def listed(params: Params, prompt: Array) -> Array:
        def from_prefix(number: Array) -> Array:
            prefix = listing.decode(number, length - 1, vocab_size)
            # The last symbol is read by none: a position sees those before it.
            rows = policy.log_probs(params, prompt, jnp.append(prefix, jnp.int32(0)))
            return jnp.sum(rows[jnp.arange(length - 1), prefix]) + rows[-1]

        numbers = jnp.arange(num_prefixes, dtype=jnp.int32)
        if num_prefixes <= MAX_AT_ONCE:
            return jax.vmap(from_prefix)(numbers).reshape(-1)
        return jax.lax.map(from_prefix, numbers, batch_size=MAX_AT_ONCE).reshape(-1)

    return listed
