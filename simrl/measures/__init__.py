"""What simrl measures, usable alone: arrays in, arrays out, under jit and vmap."""

from simrl.measures import duels, feedback, flops, gradients, guesses, information, phases

__all__ = ["duels", "feedback", "flops", "gradients", "guesses", "information", "phases"]
