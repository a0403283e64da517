"""Distributions of scipy, which a search drew parameters from: a model does not ask them again.

``scipy.stats`` compiles a text of the state that it gets; so none of that is made.
"""

from __future__ import annotations

from bundleserver.frameworks.pickles.gate.models.statespace import Dropped


class Distribution(Dropped):
    """In place of a distribution: it takes any state, and keeps nothing of it."""


DISTRIBUTIONS = (
    "numpy.vectorize",
    "scipy.stats._distn_infrastructure.rv_continuous_frozen",
    "scipy.stats._distn_infrastructure.rv_discrete_frozen",
    *(
        f"scipy.stats._continuous_distns.{name}_gen"
        for name in (
            *("beta", "expon", "gamma", "halfnorm", "lognorm", "norm", "reciprocal", "t"),
            *("triang", "truncexpon", "truncnorm", "uniform"),
        )
    ),
    *(
        f"scipy.stats._discrete_distns.{name}_gen"
        for name in ("bernoulli", "binom", "geom", "nbinom", "poisson", "randint")
    ),
)
"""What parameters are drawn from, and what these distributions hold."""
