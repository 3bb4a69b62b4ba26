"""A checkup as text and as small tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from causalrl.data import End

if TYPE_CHECKING:
    import pandas as pd

    from causalrl.checkup import Checkup

_MOST = 12


def checkup_text(checkup: Checkup) -> str:
    """The main figures and all findings."""
    log = checkup.log
    lines = [f"{log.n} trajectories, {log.decisions} decisions, {log.clusters} independent units"]
    if not log.one_decision:
        ends = ", ".join(f"{log.ends[kind]} {kind.name.lower()}" for kind in End if log.ends[kind])
        lines.append(f"lengths {log.shortest} to {log.longest} (median {log.median:g}); ends: {ends}")
    low, mean, high = log.rewards
    lines.append(f"rewards {low:.4g} to {high:.4g}, mean {mean:.4g}")
    if checkup.behavior is not None:
        lines.append(f"propensities: {checkup.behavior}")
    for title, table in checkup_tables(checkup):
        lines += ["", title, table.to_string(index=False, float_format=lambda x: f"{x:.4g}", na_rep="")]
    lines += ["", "findings" if checkup.findings else "no findings", *(f"  {finding!r}" for finding in checkup.findings)]
    return "\n".join(lines)


def checkup_tables(checkup: Checkup) -> list[tuple[str, pd.DataFrame]]:
    """Titles and tables: arms, balance, calibration, positivity; those that there are."""
    import pandas as pd

    tables = [("arms", _arms(checkup))] if len(checkup.log.arms) else []
    if checkup.balance is not None and checkup.balance.names:
        tables.append(("balance (largest absolute standardised mean difference)", _balance(checkup)))
    if checkup.calibration:
        keys = ("arm", "intercept", "slope", "slope_stderr", "brier", "ece")
        rows = [{key: getattr(curve, key) for key in keys} for curve in checkup.calibration]
        tables.append(("calibration of the propensities", pd.DataFrame(rows)))
    if checkup.regions:
        rows = [
            {"region": region.rule, "n": region.n, "rarest arm": region.arm, "mean": region.mean, "least": region.least}
            for region in checkup.regions
        ]
        tables.append(("propensity of the rarest arm, by region", pd.DataFrame(rows)))
    return tables


def _arms(checkup: Checkup) -> pd.DataFrame:
    import pandas as pd

    log = checkup.log
    table = pd.DataFrame({"arm": log.arms, "n": log.counts, "mean reward": log.mean_reward, "sd": log.sd_reward})
    for key in ("least", "most", "outside", "ess", "ess_overlap", "max_weight", "largest_share", "tail_index"):
        values = [getattr(arm, key) for arm in checkup.overlap]
        if any(value is not None for value in values):
            table[key.replace("_", " ")] = np.array(values, dtype=float)
    return table


def _balance(checkup: Checkup) -> pd.DataFrame:
    import pandas as pd

    balance = checkup.balance
    assert balance is not None
    before = np.abs(balance.before).max(axis=0)
    table = pd.DataFrame({"column": balance.names, "before": before})
    if balance.after is not None:
        table["after"] = np.abs(balance.after).max(axis=0)
    return table.sort_values("before", ascending=False, kind="stable").head(_MOST)
