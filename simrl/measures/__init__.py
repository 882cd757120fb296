"""What simrl measures, usable alone: arrays in, arrays out, under jit and vmap."""

from simrl.measures import feedback, flops, gradients, guesses, information, phases

__all__ = ["feedback", "flops", "gradients", "guesses", "information", "phases"]
