"""Real data sets with published answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from causalrl.data import Trajectories
from causalrl.errors import missing_extra

if TYPE_CHECKING:
    import pandas as pd

NHEFS_COVARIATES = ("sex", "race", "education", "exercise", "active", "age", "smokeintensity", "smokeyrs", "wt71")


def nhefs() -> Trajectories:
    """NHEFS: does quitting smoking change weight? (Hernan & Robins, *Causal Inference: What If*, chapters 12 to 15.)

    One decision for each of the 1,566 smokers whose weight was measured in 1982: treatment quitting between 1971 and 1982
    (`qsmk`), outcome the weight change in kg (`wt82_71`), observation the nine confounders of the book under their names,
    untransformed (`sex`, `race`, `education`, `exercise` and `active` are codes).

    Raises:
        MissingExtraError: without the package causaldata (extra `data`).

    Example:
        >>> study = nhefs()
        >>> study.n, study.feature_names[:3]
        (1566, ('sex', 'race', 'education'))
    """
    table = nhefs_table()
    table = table[table["wt82_71"].notna()]
    return Trajectories.from_arrays(
        table[list(NHEFS_COVARIATES)].to_numpy(float),
        table["qsmk"].to_numpy().astype(np.int64),
        table["wt82_71"].to_numpy(float),
        np.arange(len(table) + 1),
        ids=table["seqn"].to_numpy().astype(np.int64),
        feature_names=NHEFS_COVARIATES,
    )


def nhefs_table() -> pd.DataFrame:
    """NHEFS as published: all 1,629 smokers and 67 columns, missing values included; `nhefs()` is made of it.

    For what `nhefs()` leaves out: other treatments (`smkintensity82_71`), outcomes (`death`), the instrument of chapter 16
    (`price82`), and the 63 whose weight in 1982 is missing (chapter 12.6 of Hernan & Robins, *What If*).

    Raises:
        MissingExtraError: without the package causaldata (extra `data`).

    Example:
        >>> table = nhefs_table()
        >>> table.shape, int(table["wt82_71"].isna().sum())
        ((1629, 67), 63)
    """
    try:
        from causaldata import nhefs as source
    except ModuleNotFoundError:
        missing_extra("causaldata", "data")
    table: pd.DataFrame = source.load_pandas().data
    return table
