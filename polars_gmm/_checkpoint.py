"""Checkpoints: the state of a fit in a file, to go on from."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polars_gmm._checks import shown
from polars_gmm._errors import GmmError
from polars_gmm._lib import Loop, Survey

if TYPE_CHECKING:
    from polars_gmm._fit import Driven
    from polars_gmm._options import FitOptions

_FORMAT = "polars-gmm checkpoint"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Saved:
    """What a checkpoint holds: the loop, by what its rows are known, and what it has cost."""

    loop: Loop
    survey: Survey
    n_passes: int
    seconds: list[float]


class Checkpoint:
    """A file that holds the state of one fit at a time."""

    def __init__(
        self, path: str | PathLike[str], options: FitOptions, *, extras: list[str]
    ) -> None:
        self._path = Path(path)
        start = options["start"]
        self._options: dict[str, Any] = {
            **options,
            "start": None if start is None else start.hex(),
            "columns": extras,
        }

    def save(self, fit: Driven) -> None:
        """Replace the file by the state of a fit: whoever reads it finds the old or the new one."""
        content = {
            "format": _FORMAT,
            "version": _VERSION,
            "options": self._options,
            "survey": json.loads(fit.survey.state()),
            "n_passes": fit.n_passes or 0,
            "seconds": [row[-1] for row in fit.history()],
            "loop": json.loads(fit.as_loop().state()),
        }
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("w", encoding="utf-8") as file:
                json.dump(content, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        finally:
            temporary.unlink(missing_ok=True)

    def load(self, features: list[str] | None) -> Saved | None:
        """Read the file, if there is one.

        Parameters
        ----------
        features
            Names of the features of the fit that is to go on, where its schema tells them.

        Raises
        ------
        GmmError
            If it is no checkpoint, or one of a fit with other features or options.
        """
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError) as error:
            raise self._unreadable(f"it does not parse: {error}") from error
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise self._unreadable("it is something else")
        if content.get("version") != _VERSION:
            raise self._unreadable(
                f"its version is {content.get('version')!r}, and this package reads {_VERSION}"
            )
        self._check_options(content.get("options"))
        saved = self._saved(content)
        if features is not None and saved.survey.features != features:
            raise GmmError(
                f"the checkpoint {str(self._path)!r} is of a fit to the features "
                f"{saved.survey.features}, but this one is to {features}; {self._remedy}"
            )
        return saved

    @property
    def _remedy(self) -> str:
        return "give the same, another file, or resume=False to begin anew"

    def _saved(self, content: dict[str, Any]) -> Saved:
        try:
            loop = Loop.from_state(json.dumps(content["loop"]))
            survey = Survey.from_state(json.dumps(content["survey"]))
            seconds = [float(value) for value in content["seconds"]]
            n_passes = int(content["n_passes"])
        except (KeyError, TypeError, ValueError) as error:
            raise self._unreadable(str(error)) from error
        if len(seconds) != len(loop.history()):
            raise self._unreadable("its seconds are not those of its iterations")
        return Saved(loop, survey, n_passes, seconds)

    def _check_options(self, saved: Any) -> None:
        if not isinstance(saved, dict):
            raise self._unreadable("it has no options")
        for name, value in json.loads(json.dumps(self._options)).items():
            if saved.get(name) != value:
                raise GmmError(
                    f"the checkpoint {str(self._path)!r} is of a fit with "
                    f"{_described(name, saved.get(name))}, but this one has "
                    f"{_described(name, value)}; {self._remedy}"
                )

    def _unreadable(self, reason: str) -> GmmError:
        return GmmError(
            f"{str(self._path)!r} is not a checkpoint that can be gone on from: {reason}; give the "
            f"file a fit wrote, or resume=False to begin anew"
        )


def _described(name: str, value: Any) -> str:
    if name == "start":
        return "no model to start from" if value is None else "another model to start from"
    if name == "columns":
        return f"the columns {value} beside the features"
    return f"{name}={value!r}"


def checkpoint_path(value: object) -> str | PathLike[str] | None:
    """Check the file of an option that may be absent."""
    if value is None or (isinstance(value, str | PathLike) and os.fspath(value)):
        return value
    raise GmmError(f"checkpoint must be the path of a file; got {shown(value)}")
