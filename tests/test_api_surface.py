"""What the package promises to its users: `api_surface.txt` lists every public name.

After a change that is meant to alter it, `.venv/bin/python tests/test_api_surface.py` writes it
anew; read the difference.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
import types
from collections.abc import Iterator
from pathlib import Path

import polars as pl

import polars_gmm as pg

SURFACE = Path(__file__).with_name("api_surface.txt")
NAMESPACES = {"Expr.gmm": pl.Expr, "DataFrame.gmm": pl.DataFrame, "LazyFrame.gmm": pl.LazyFrame}


class Written:
    """An annotation as the source has it, the same on every Python."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def written(annotation: object) -> object:
    return Written(annotation) if isinstance(annotation, str) else annotation


def signature(function: object) -> str:
    """Parameters with their kinds, annotations and defaults, and what is returned."""
    assert callable(function)
    given = inspect.signature(function)
    parameters = [
        p.replace(annotation=written(p.annotation))
        for p in given.parameters.values()
        if p.name not in {"self", "cls"}
    ]
    return str(
        given.replace(parameters=parameters, return_annotation=written(given.return_annotation))
    )


def methods(name: str, cls: type) -> Iterator[str]:
    """A line for each public method, property and attribute of a class, inherited ones too."""
    attributes = {
        attribute: annotation
        for base in reversed(cls.__mro__)
        for attribute, annotation in inspect.get_annotations(base).items()
    }
    own = [a for a in dir(cls) if a not in dir(BaseException) and a not in attributes]
    for attribute in sorted(a for a in (*attributes, *own) if not a.startswith("_")):
        found = inspect.getattr_static(cls, attribute, None)
        if isinstance(found, property):
            yield f"{name}.{attribute}: {inspect.signature(found.fget).return_annotation}"
        elif isinstance(found, classmethod):
            yield f"{name}.{attribute}{signature(found.__func__)}  [classmethod]"
        elif isinstance(found, types.FunctionType):
            yield f"{name}.{attribute}{signature(found)}"
        else:
            yield f"{name}.{attribute}: {attributes[attribute]}"


def aliases() -> dict[str, str]:
    """The types that signatures name, as the source spells them out."""
    found = {}
    for module in pkgutil.iter_modules(pg.__path__, "polars_gmm."):
        path = importlib.import_module(module.name).__file__
        if path is None or not path.endswith(".py"):
            continue
        for node in ast.parse(Path(path).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "TypeAlias":
                assert node.value is not None
                found[ast.unparse(node.target)] = ast.unparse(node.value)
    return found


def named_in(lines: list[str], given: dict[str, str]) -> list[str]:
    """The aliases these lines name, and those that they name in turn."""
    words = set(re.findall(r"\w+", " ".join(lines)))
    new = [f"{name} = {type_}" for name, type_ in given.items() if name in words]
    rest = {name: type_ for name, type_ in given.items() if name not in words}
    return sorted([*new, *named_in(new, rest)]) if new else []


def overloads(function: types.FunctionType) -> list[str]:
    """The signatures a type checker chooses from."""
    return [
        f"{node.name}({ast.unparse(node.args)}) -> {ast.unparse(node.returns)}"
        for node in ast.parse(inspect.getsource(inspect.getmodule(function))).body
        if isinstance(node, ast.FunctionDef) and node.name == function.__name__
        if "overload" in map(ast.unparse, node.decorator_list)
    ]


def described(name: str, thing: object) -> Iterator[str]:
    if isinstance(thing, types.FunctionType):
        yield from overloads(thing) or [f"{name}{signature(thing)}"]
        return
    if not isinstance(thing, type):
        yield f"{name}: {type(thing).__name__}"
        return
    bases = ", ".join(base.__name__ for base in thing.__bases__ if base is not object)
    yield f"class {name}({bases})" if bases else f"class {name}"
    if "__init__" in thing.__dict__ and not dataclasses.is_dataclass(thing):
        yield f"{name}{signature(thing.__init__)}"
    yield from methods(name, thing)


def surface() -> str:
    blocks = [[f"{name}", *methods(name, cls.gmm)] for name, cls in NAMESPACES.items()]
    blocks += [list(described(name, getattr(pg, name))) for name in sorted(pg.__all__)]
    blocks.append(named_in([line for block in blocks for line in block], aliases()))
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def test_the_surface_is_what_was_promised() -> None:
    assert surface() == SURFACE.read_text(encoding="utf-8")


if __name__ == "__main__":
    SURFACE.write_text(surface(), encoding="utf-8")
