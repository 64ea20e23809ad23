"""Little data, where the cost of a call is all there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import beside_sklearn
import ours
import talk
from blas import faster_threads
from timing import Effort, Result, compared

from data import NEAR, Data, mixture

Sides = dict[str, Callable[[], object]]


def calls(effort: Effort) -> Iterator[Result]:
    for n, d, k in ((1, 2, 2), (100, 2, 2), (1000, 4, 4)):
        data = mixture(n, d, k, NEAR)
        if n > 1:
            sides = {
                "ours": ours.em_step(data),
                "scikit-learn": beside_sklearn.one_iteration(data),
            }
            yield with_faster_threads("em_step", data, sides, effort)
            mine, column = ours.m_step(data)
            given, matrix = column.to_numpy(), data.matrix
            sides = {
                "ours": mine,
                "NumPy einsum": lambda matrix=matrix, given=given: talk.with_einsum(matrix, given),
            }
            yield with_faster_threads("m_step", data, sides, effort)
        sk = data.model.to_sklearn()
        del sk.feature_names_in_
        expression, frame, matrix = data.model.predict(), data.frame, data.matrix
        sides = {
            "ours": lambda frame=frame, expression=expression: frame.select(expression),
            "scikit-learn": lambda sk=sk, matrix=matrix: sk.predict(matrix),
        }
        yield with_faster_threads("predict", data, sides, effort)


def with_faster_threads(what: str, data: Data, sides: Sides, effort: Effort) -> Result:
    n, d, k = data.shape
    with faster_threads(*list(sides.values())[1:]):
        return {"what": what, "n": n, "d": d, "k": k} | compared(sides, effort)
