"""Tabular softmax policy, factorised over positions: one row of logits per prompt and position."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from simrl import keys
from simrl.types import Array, Policy, Shape


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Tabular:
    """Logits [M, L, V] that start at zero: the uniform policy."""

    def build(self, shape: Shape) -> Policy:
        """The policy for worlds of this shape."""
        num_prompts, length, vocab_size = shape

        def init(key: Array) -> Array:
            return jnp.zeros((num_prompts, length, vocab_size))

        def logits(params: Array, prompt: Array) -> Array:
            # A row is picked before the softmax, so one prompt never pays for all of them.
            return params[0] if num_prompts == 1 else params[prompt]

        def log_law(params: Array, prompt: Array) -> Array:
            return jax.nn.log_softmax(logits(params, prompt), axis=-1)

        def sample(words: Array, params: Array, prompt: Array) -> Array:
            rows = logits(params, prompt)
            powers = jnp.exp(rows - jnp.max(rows, axis=-1, keepdims=True))
            # Written as the fused path does (simrl.columns), that both pick the same symbols.
            probs = powers * (1 / jnp.sum(powers, axis=-1, keepdims=True))
            tables = jax.vmap(keys.cumulative)(probs)
            return jax.vmap(keys.choose)(words, tables)

        def log_prob(params: Array, prompt: Array, answer: Array) -> Array:
            return log_law(params, prompt)[jnp.arange(length), answer]

        def log_probs(params: Array, prompt: Array, answer: Array) -> Array:
            return log_law(params, prompt)

        return Policy(
            init,
            sample,
            log_prob,
            log_probs,
            num_active_params=vocab_size,
            tabular=True,
            inverts=True,
        )
