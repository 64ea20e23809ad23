"""Altair charts that carry a picture, for viewers that cannot draw them."""

from __future__ import annotations

from typing import Any

import altair as alt
import vl_convert

MAJOR, MINOR, _ = alt.SCHEMA_VERSION.removeprefix("v").split(".")


def bundle(spec: dict[str, Any], **_: Any) -> dict[str, Any]:
    """A small picture of the chart; and the chart itself, if it has something to move."""
    picture = vl_convert.vegalite_to_jpeg(spec, vl_version=f"{MAJOR}.{MINOR}", quality=65)
    moves = any("bind" in parameter for parameter in spec.get("params", []))
    chart = {f"application/vnd.vegalite.v{MAJOR}+json": spec} if moves else {}
    return chart | {"image/jpeg": picture}


alt.renderers.register("with pictures", bundle)
alt.renderers.enable("with pictures")
