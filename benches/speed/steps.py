"""One iteration of EM, the M-step alone, and scoring, beside scikit-learn."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import beside_sklearn
import numpy as np
import ours
import talk
from blas import Work, both_ways
from peers import PEERS
from timing import QUICK, Effort, Result, compared

from data import FAR, NEAR, Data, blobs, mixture


class Shape(NamedTuple):
    """Rows, features, components; and how many times scikit-learn's time is aimed for at least."""

    n: int
    d: int
    k: int
    overlapping: int
    separated: int


BLOBS = Shape(10_000, 2, 20, 50, 50)
SHAPES = (
    Shape(1_000_000, 4, 16, 50, 50),
    Shape(1_000_000, 8, 8, 40, 40),
    Shape(100_000, 50, 64, 15, 20),
    Shape(100_000, 128, 16, 7, 15),
)
TALKS, IN_ONE_COLUMN = "the talk's blobs", "the same, in a struct column"
CALLED = "the same, by df.gmm"
SMALLER = 50  # times fewer rows in a quick run


def shapes(effort: Effort) -> list[Shape]:
    return [s._replace(n=s.n // SMALLER) if effort == QUICK else s for s in SHAPES]


def cases(effort: Effort) -> Iterator[tuple[str, Data, Work, int]]:
    talks = blobs(BLOBS.n, BLOBS.k)
    inside = talks.in_one_column()
    yield TALKS, talks, ours.em_step(talks), BLOBS.overlapping
    yield IN_ONE_COLUMN, inside, ours.em_step(inside), BLOBS.overlapping
    yield CALLED, talks, ours.em_step_called(talks), BLOBS.overlapping
    for n, d, k, overlapping, separated in shapes(effort):
        near, far = mixture(n, d, k, NEAR), mixture(n, d, k, FAR)
        yield "overlapping", near, ours.em_step(near), overlapping
        yield "separated", far, ours.em_step(far), separated


def beside_peers(data: Data, effort: Effort) -> Iterator[tuple[str, Result]]:
    """Those that are installed; one that fails is left out, and says why."""
    for peer in PEERS:
        if peer.version() is not None:
            try:
                yield peer.NAME, peer.iteration(data, effort)
            except subprocess.CalledProcessError as error:
                print(f"{peer.NAME} failed: {error}\n{error.stderr or ''}", file=sys.stderr)


def described(name: str, data: Data, goal: int) -> Result:
    n, d, k = data.shape
    return {"data": name, "n": n, "d": d, "k": k, "entropy": data.entropy(), "goal": goal}


def iterations(effort: Effort) -> Iterator[Result]:
    """E-step and M-step, full covariances."""
    for name, data, mine, goal in cases(effort):
        theirs = beside_sklearn.one_iteration(data)
        sides = {"ours": mine, **both_ways("scikit-learn", theirs)}
        figures = compared(sides, effort)
        if data.matrix.shape[1] <= 4:  # what peers need for more would take minutes
            figures["peers"] = dict(beside_peers(data, effort))
        yield described(name, data, goal) | figures


def m_steps(effort: Effort) -> Iterator[Result]:
    """The M-step from responsibilities that are given, with the talk's two Python versions."""
    talks = blobs(BLOBS.n, BLOBS.k)
    mine, column = ours.m_step(talks)
    given = column.to_numpy()
    # make_blobs gives rows that lie together; NumPy is much faster where columns do.
    columns, by_column = np.asfortranarray(talks.matrix), np.asfortranarray(given)
    einsum = partial(talk.with_einsum, talks.matrix, given)
    sides = {
        "ours": mine,
        "NumPy einsum": einsum,
        "NumPy einsum, columns contiguous": partial(talk.with_einsum, columns, by_column),
        **both_ways("NumPy loop", partial(talk.with_a_loop, talks.matrix, given)),
        **both_ways(
            "NumPy loop, columns contiguous", partial(talk.with_a_loop, columns, by_column)
        ),
        **both_ways("scikit-learn", beside_sklearn.m_step(talks, given)),
    }
    yield described(TALKS, talks, 30) | compared(sides, effort)
    inside, _ = ours.m_step(talks.in_one_column())
    for name, mine in ((IN_ONE_COLUMN, inside), (CALLED, ours.m_step_called(talks, column))):
        yield described(name, talks, 30) | compared({"ours": mine, "NumPy einsum": einsum}, effort)


def scoring(effort: Effort) -> Iterator[Result]:
    n, d, k, *_ = shapes(effort)[0]
    for name, distance in (("overlapping", NEAR), ("separated", FAR)):
        data = mixture(n, d, k, distance)
        sk = data.model.to_sklearn()
        del sk.feature_names_in_  # it is given a bare matrix
        x, model = data.features.gmm, data.model
        pairs = {
            "responsibilities": (x.responsibilities(model), sk.predict_proba),
            "log_density": (x.log_density(model), sk.score_samples),
            "predict": (x.predict(model), sk.predict),
        }
        for what, (expression, theirs) in pairs.items():
            sides = {
                "ours": partial(data.frame.select, expression),
                **both_ways("scikit-learn", partial(theirs, data.matrix)),
            }
            yield described(name, data, 30) | {"what": what} | compared(sides, effort)
