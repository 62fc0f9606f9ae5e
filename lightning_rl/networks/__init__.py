"""Networks that take their sizes from an environment, and what their outputs mean.

How they are trained is in `agents/`; the networks of world models are in `worlds/`.
"""

from lightning_rl.networks.action_values import (
    QNetwork,
    SoftActorCriticNetwork,
    TwinCritic,
    mlp,
)
from lightning_rl.networks.actor_critic import (
    ActorCriticNetwork,
    FastTanh,
    GaussianHead,
    TwinLinear,
)
from lightning_rl.networks.distributions import (
    ActionDistribution,
    Bernoulli,
    Categorical,
    DiagonalGaussian,
    MultiCategorical,
    SquashedGaussian,
    action_distribution,
    num_action_parameters,
)
from lightning_rl.networks.encoders import (
    DictEncoder,
    ImageEncoder,
    VectorEncoder,
    is_image,
    make_encoder,
    orthogonal,
)

__all__ = [
    "ActionDistribution",
    "ActorCriticNetwork",
    "Bernoulli",
    "Categorical",
    "DiagonalGaussian",
    "DictEncoder",
    "FastTanh",
    "GaussianHead",
    "ImageEncoder",
    "MultiCategorical",
    "QNetwork",
    "SoftActorCriticNetwork",
    "SquashedGaussian",
    "TwinCritic",
    "TwinLinear",
    "VectorEncoder",
    "action_distribution",
    "is_image",
    "make_encoder",
    "mlp",
    "num_action_parameters",
    "orthogonal",
]
