"""A process that was forked after JAX was used waits for ever: JAX's threads are not in it."""

import os
import sys

_forked_with_jax = 0  # the process that used JAX and forked last: this one or one above it; 0: none


def refuse_forked() -> None:
    """Raises SpecError where JAX was used before this process was forked."""
    if _forked_with_jax not in (0, os.getpid()):
        from simrl.errors import SpecError  # noqa: PLC0415  (`import simrl` is light)

        raise SpecError(
            "simrl.run cannot be called in a process that was forked after JAX was used: it would "
            "never end; use multiprocessing.get_context('spawn')"
        )


def _note() -> None:
    global _forked_with_jax
    if _is_jax_used():
        _forked_with_jax = os.getpid()


def _is_jax_used() -> bool:
    """Whether JAX has devices already; JAX says so alone by refusing to change their number."""
    config = getattr(sys.modules.get("jax"), "config", None)
    before = getattr(config, "jax_num_cpu_devices", None)
    if config is None or before is None:
        return False
    try:
        config.update("jax_num_cpu_devices", before + 1)
    except RuntimeError:
        return True
    config.update("jax_num_cpu_devices", before)
    return False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_note)
