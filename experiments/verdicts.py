"""How the experiments tell a number, its error, and whether a claim about it holds."""

import numpy as np

ERRORS = 4.0  # standard errors that a difference may have
FEW = "too few runs"


def told(value: float, error: float, digits: int = 4) -> str:
    """A number with its standard error."""
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def error_of(values: np.ndarray) -> float:
    """Standard error of the mean over runs."""
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def verdict(holds: bool) -> str:
    """For the tables."""
    return "holds" if holds else "FAILS"


def settled(above: float, error: float) -> str:
    """Whether a number is above what it is held against."""
    return FEW if abs(above) < ERRORS * error else verdict(above > 0)
