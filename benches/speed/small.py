"""Little data, where the cost of a call is all there is."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import beside_sklearn
import ours
import talk
from blas import Work, both_ways
from timing import Effort, Result, compared

from data import NEAR, Data, mixture

Sides = dict[str, Work]


def calls(effort: Effort) -> Iterator[Result]:
    for n, d, k in ((1, 2, 2), (100, 2, 2), (1000, 4, 4)):
        data = mixture(n, d, k, NEAR)
        for what, sides in steps(data) if n > 1 else []:
            yield {"what": what, "n": n, "d": d, "k": k} | compared(sides, effort)
        sk = data.model.to_sklearn()
        del sk.feature_names_in_  # it is given a bare matrix
        sides = {
            "ours": partial(data.frame.select, data.model.predict()),
            **both_ways("scikit-learn", partial(sk.predict, data.matrix)),
        }
        yield {"what": "predict", "n": n, "d": d, "k": k} | compared(sides, effort)


def steps(data: Data) -> Iterator[tuple[str, Sides]]:
    theirs = beside_sklearn.one_iteration(data)
    em_steps = {"em_step": ours.em_step(data), "df.gmm.em_step": ours.em_step_called(data)}
    for what, mine in em_steps.items():
        yield what, {"ours": mine, **both_ways("scikit-learn", theirs)}
    expression, column = ours.m_step(data)
    m_steps = {"m_step": expression, "df.gmm.m_step": ours.m_step_called(data, column)}
    numpy = partial(talk.with_einsum, data.matrix, column.to_numpy())
    for what, mine in m_steps.items():
        yield what, {"ours": mine, "NumPy einsum": numpy}
