"""Learning policies with the discrete algorithms of d3rlpy: BC, DQN, CQL, BCQ and their kin."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from causalrl.checks import seed_number, whole_number
from causalrl.data import Trajectories
from causalrl.errors import DataError, EstimandError
from causalrl.kernels.rng import derive_seed
from causalrl.nuisances.crossfit import require_trajectories
from causalrl.nuisances.networks import load_d3rlpy, quiet, seeded

if TYPE_CHECKING:
    from causalrl.adapters.d3rlpy import D3RLPolicy


@dataclass(frozen=True)
class DeepLearner:
    """Train an algorithm of d3rlpy: behaviour cloning, DQN, conservative Q-learning, batch-constrained Q-learning.

    The same seed gives the same policy. Nothing is printed and no file is written, and no global random state changes. d3rlpy
    learns nothing from the last step of a truncated record, since it keeps no observation after it (see `to_d3rlpy`).

    Args:
        config: a configuration with discrete actions, such as `d3rlpy.algos.DiscreteCQLConfig(gamma=0.99)`; it holds the
            discount, the networks, and whether observations are scaled.
        steps: gradient steps.

    Raises:
        EstimandError: for a configuration that is none, or is continuous, or steps below 1.
        MissingExtraError: without the extra `d3rlpy`.

    Example:
        >>> import causalrl as crl
        >>> from causalrl.nuisances.networks import load_d3rlpy
        >>> data = crl.Trajectories.from_arrays([0, 0, 0, 0], [0, 1, 0, 1], [0.0, 1.0, 0.0, 1.0], [0, 1, 2, 3, 4])
        >>> config = load_d3rlpy().algos.DiscreteBCQConfig(batch_size=16)
        >>> DeepLearner(config, steps=50).fit(data).policy().probabilities(data.observations[:1], data.actions[:1])
        array([[0., 1.]])
    """

    config: Any
    steps: int = 10_000

    def __post_init__(self) -> None:
        d3rlpy = load_d3rlpy()
        whole_number("steps", self.steps, 1, EstimandError)
        if not isinstance(self.config, d3rlpy.base.LearnableConfig):
            raise EstimandError(f"config: {self.config!r} is no configuration of d3rlpy; pass d3rlpy.algos.DiscreteCQLConfig().")
        algo = deepcopy(self.config).create()
        name = type(self.config).__name__
        if not isinstance(algo, d3rlpy.algos.QLearningAlgoBase) or algo.get_action_type() != d3rlpy.ActionSpace.DISCRETE:
            raise EstimandError(f"config: {name} does not choose among discrete actions; pass d3rlpy.algos.DiscreteCQLConfig().")

    def fit(self, data: Trajectories, seed: int = 0) -> TrainedNetwork:
        """Train on logged decisions.

        Raises:
            DataError: for continuous actions, or records that d3rlpy cannot hold.
        """
        from causalrl.adapters.d3rlpy import to_d3rlpy

        require_trajectories(data)
        if data.n_actions == 0:
            raise DataError("actions: they are continuous, and DeepLearner needs discrete ones; bin them into integers first.")
        d3rlpy = load_d3rlpy()
        algo, records = deepcopy(self.config).create(), to_d3rlpy(data)
        with quiet(), seeded(derive_seed(seed_number(seed), "d3rlpy")):
            algo.fit(
                records,
                n_steps=self.steps,
                n_steps_per_epoch=self.steps,
                logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
                show_progress=False,
            )
        return TrainedNetwork(self, data, algo)


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """The result of a `DeepLearner`.

    Attributes:
        learner: what it was trained by. data: what it learned from. algo: the algorithm of d3rlpy.
    """

    learner: DeepLearner
    data: Trajectories
    algo: Any

    def policy(self, *, imitated: bool = False) -> D3RLPolicy:
        """The greedy policy, or the probabilities that `DiscreteBC` has learned.

        Raises:
            PolicyError: for imitated=True of another algorithm.
        """
        from causalrl.adapters.d3rlpy import D3RLPolicy

        return D3RLPolicy(self.algo, self.data.features, imitated)
