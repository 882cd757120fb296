"""Tabular autoregressive policy: a row of logits for every prefix, so any law over answers."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from simrl import keys, listing
from simrl.records import readable
from simrl.types import Array, Policy, Shape


@readable
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Autoregressive:
    """Logits [M, R, V] that start at zero: the uniform policy.

    R = (V^L - 1)/(V - 1) rows, one for each prefix of fewer than L symbols, the short ones first
    and those of one length by their numbers (simrl.listing). A softmax of each is the law of the
    next symbol: the chain rule, with nothing shared between prefixes.
    """

    def problems(self, shape: Shape) -> list[str]:
        """What is wrong with this specification for worlds of this shape, one line each."""
        return listing.problems(shape, "autoregressive")

    def build(self, shape: Shape) -> Policy:
        """The policy for worlds of this shape."""
        num_prompts, length, size = shape
        first = [(size**t - 1) // (size - 1) for t in range(length + 1)]  # row of each length

        def init(key: Array) -> Array:
            return jnp.zeros((num_prompts, first[-1], size))

        def sample(words: Array, params: Array, prompt: Array) -> Array:
            prefix, answer = jnp.int32(0), []
            for t in range(length):
                probs = jax.nn.softmax(jnp.asarray(params)[prompt, first[t] + prefix])
                chosen = keys.choose(words[t], keys.cumulative(probs))
                prefix = prefix * size + chosen
                answer.append(chosen)
            return jnp.stack(answer)

        def log_probs(params: Array, prompt: Array, answer: Array) -> Array:
            prefixes = [listing.code(answer[:t], size) for t in range(length)]
            rows = jnp.stack(prefixes) + jnp.array(first[:-1])
            return jax.nn.log_softmax(jnp.asarray(params)[prompt, rows], axis=-1)

        def log_prob(params: Array, prompt: Array, answer: Array) -> Array:
            return log_probs(params, prompt, answer)[jnp.arange(length), answer]

        def listed(params: Array, prompt: Array) -> Array:
            rows = jax.nn.log_softmax(params[prompt], axis=-1)
            law = jnp.zeros(1, params.dtype)
            for t in range(length):
                law = (law[:, None] + rows[first[t] : first[t + 1]]).reshape(-1)
            return law

        return Policy(
            init,
            sample,
            log_prob,
            log_probs,
            num_active_params=size,
            listed=listed,
            inverts=True,
            by_prefix=length > 1,
        )
