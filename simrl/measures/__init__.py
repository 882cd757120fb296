"""What simrl measures, usable alone: arrays in, arrays out, under jit and vmap."""

from simrl.measures import flops, gradients, information, phases

__all__ = ["flops", "gradients", "information", "phases"]
