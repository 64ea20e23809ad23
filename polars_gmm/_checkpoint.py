"""Checkpoints: the state of a fit in a file, to go on from."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from polars_gmm._checks import shown
from polars_gmm._errors import GmmError
from polars_gmm._lib import Loop, Model, Survey
from polars_gmm._model import wrap

if TYPE_CHECKING:
    from polars_gmm._fit import Driven
    from polars_gmm._options import FitOptions

_FORMAT = "polars-gmm checkpoint"
_VERSION = 1
_HEAD = f'{{"format": "{_FORMAT}", "version": '
_CHECKSUM = ', "checksum": '
# What a column beside the features is called where it is given.
_OPTIONS = {"weight": "weights", "label": "labels", "start": "init"}
# Starts from the same column differ by rounding: by less than this, of a standard deviation.
_CLOSE = 1e-9


@dataclass(frozen=True, slots=True)
class Saved:
    """What a checkpoint holds: the loop, by what its rows are known, and what it has cost.

    Attributes
    ----------
    start
        The start, where it comes from a column.
    """

    loop: Loop
    survey: Survey
    start: Model | None
    n_passes: int
    seconds: list[float]

    def check_start(self, other: Model) -> None:
        """Raise where a column gives another start than it gave this fit."""
        if self.start is not None and not _same(self.start, other):
            raise GmmError(
                "the start is not the one this fit began with: the column of init has other "
                "values, or is another one; give the same, or resume=False to begin anew"
            )


def _same(a: Model, b: Model) -> bool:
    """Tell whether two models are the same to rounding."""
    if (a.k, a.d) != (b.k, b.d):
        return False
    one, other = wrap(a), wrap(b)
    deviations = np.sqrt(np.diagonal(one.covariances, axis1=1, axis2=2))
    scale = deviations + 1e-4 * np.abs(one.means)
    products = scale[:, :, None] * scale[:, None, :]
    return bool(
        np.all(np.abs(one.weights - other.weights) <= _CLOSE)
        and np.all(np.abs(one.means - other.means) <= _CLOSE * scale)
        and np.all(np.abs(one.covariances - other.covariances) <= _CLOSE * products)
    )


class Checkpoint:
    """A file that holds the state of one fit at a time.

    Raises
    ------
    GmmError
        If the file could not be written.
    """

    def __init__(
        self, path: str | PathLike[str], options: FitOptions, *, extras: list[str]
    ) -> None:
        self._path = Path(path)
        self._place = self._path.absolute()  # the working directory may change
        self._check_writable()
        self._starts_from_column = options["init"] == "column"
        self._start: Model | None = None
        self._survey: str | None = None
        start = options["start"]
        self._options: dict[str, Any] = {
            **options,
            "start": None if start is None else _digest(start),
            "columns": extras,
        }

    def save(self, fit: Driven) -> None:
        """Replace the file by the state of a fit: whoever reads it finds the old or the new one.

        Raises
        ------
        GmmError
            If it cannot be written; it then holds what it held.
        """
        loop = fit.as_loop()
        if self._start is None and self._starts_from_column:
            self._start = loop.ask()  # the first save is at the start
        if self._survey is None:
            self._survey = fit.survey.state()
        start = None if self._start is None else self._start.pack().hex()
        members = {
            "options": json.dumps(self._options),
            "survey": self._survey,
            "n_passes": json.dumps(fit.n_passes or 0),
            "seconds": json.dumps([row[-1] for row in fit.history()]),
            "start": json.dumps(start),
            "loop": loop.state(),
        }
        written = "".join(f', "{name}": {text}' for name, text in members.items())
        try:
            self._replace(_signed(f"{_HEAD}{_VERSION}{written}}}"))
        except OSError as error:
            rest = (
                "it holds the state before, from which resume=True goes on once it can be written"
                if self._target().exists()
                else "no state is left; name a file that can be written until the fit ends"
            )
            raise GmmError(
                f"the checkpoint {str(self._path)!r} could not be written after iteration "
                f"{fit.iteration}: {_reason(error)}; {rest}"
            ) from error

    def _replace(self, text: str) -> None:
        target, temporary = self._target(), self._temporary()
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def _target(self) -> Path:
        """Give the file itself, where the path is a link to it."""
        return Path(os.path.realpath(self._place))

    def _temporary(self) -> Path:
        """Give what a save writes first: one file, so that one left by a kill does not stay."""
        target = self._target()
        return target.with_name(f".{target.name}.tmp")

    def _check_writable(self) -> None:
        """Raise, before any row is read, why the file could not be written."""
        try:
            target = self._target()
            if target.exists() and not target.is_file():
                what = "a directory" if target.is_dir() else "no regular file"
                folder = self._path if target.is_dir() else Path()
                raise GmmError(
                    f"checkpoint must be the path of a file, but {str(self._path)!r} is {what}; "
                    f"name a file, such as {str(folder / 'fit.json')!r}"
                )
            temporary = self._temporary()
            temporary.touch()
            temporary.unlink()
        except GmmError:
            raise
        except (OSError, ValueError) as error:
            raise GmmError(
                f"the checkpoint {str(self._path)!r} cannot be written: {_reason(error)}; give "
                f"the path of a file in a directory that exists and can be written to"
            ) from error

    def check_replaceable(self) -> None:
        """Raise, before any row is read, if the file exists and is no checkpoint."""
        target = self._target()
        try:
            with target.open("rb") as file:
                head = file.read(len(_HEAD))
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._unreadable(_reason(error)) from error
        if head and head != _HEAD.encode():
            raise GmmError(
                f"checkpoint would replace {str(self._path)!r}, which is no checkpoint; give "
                f"another path, or delete that file first"
            )

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
            text = self._place.read_text(encoding="utf-8")
            content = json.loads(text)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unreadable(_reason(error)) from error
        except (ValueError, RecursionError) as error:
            raise self._unreadable("it is cut short, or no JSON") from error
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise self._unreadable("it is something else")
        if content.get("version") != _VERSION:
            raise self._unreadable(
                f"its version is {content.get('version')!r}, and this package reads {_VERSION}"
            )
        if not _is_signed(text):
            raise self._unreadable("it was changed after it was written")
        self._check_options(content.get("options"))
        saved = self._saved(content)
        if features is not None and saved.survey.features != features:
            raise GmmError(
                f"the checkpoint {str(self._path)!r} is of a fit to the features "
                f"{saved.survey.features}, but this one is to {features}; {self._remedy}"
            )
        self._start = saved.start
        return saved

    @property
    def _remedy(self) -> str:
        return "give the same, another file, or resume=False to begin anew"

    def _saved(self, content: dict[str, Any]) -> Saved:
        try:
            loop = Loop.from_state(json.dumps(content["loop"]))
            survey = Survey.from_state(json.dumps(content["survey"]))
            start = content["start"] and Model.unpack(bytes.fromhex(content["start"]))
            seconds = [float(value) for value in content["seconds"]]
            n_passes = int(content["n_passes"])
        except (KeyError, TypeError, ValueError) as error:
            raise self._unreadable("another version of this package wrote it") from error
        return Saved(loop, survey, start, n_passes, seconds)

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
        return " and ".join(_OPTIONS[role] for role in value) or "no column beside the features"
    return f"{name}={value!r}"


def _signed(text: str) -> str:
    """Add the checksum of a JSON object to it."""
    return f'{text[:-1]}{_CHECKSUM}"{_digest(text.encode())}"}}'


def _is_signed(text: str) -> bool:
    """Tell whether a text is what `_signed` made."""
    return text == _signed(text.rpartition(_CHECKSUM)[0] + "}")


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def checkpoint_path(value: object) -> str | PathLike[str] | None:
    """Check the file of an option that may be absent."""
    if value is None:
        return None
    if isinstance(value, str | PathLike):
        path = os.fspath(value)
        if isinstance(path, str) and path:
            return path
    raise GmmError(f"checkpoint must be the path of a file; got {shown(value)}")
