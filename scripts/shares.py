"""Shares of runs with their intervals, for the tables of other scripts."""

from __future__ import annotations

from scipy.stats import binomtest


def share(hits: int, of: int) -> str:
    """Return a share with its 95 % interval (Clopper and Pearson)."""
    if not of:
        return "-"
    ends = binomtest(hits, of).proportion_ci(method="exact")
    return f"{hits}/{of} = {hits / of:.2f} [{ends.low:.2f}, {ends.high:.2f}]"
