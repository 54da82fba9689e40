"""Looking into specifications of charts, and rendering them."""

from __future__ import annotations

import json
import zlib

import altair as alt
import vl_convert

from connprops.charts.theme import LIGHT


def layers(spec):
    """Return all marks of a specification, whatever it is made of."""
    if "mark" in spec:
        return [spec]
    inner = [*spec.get("layer", []), *spec.get("hconcat", []), *spec.get("concat", [])]
    inner += [spec["spec"]] if "spec" in spec else []
    return [one for part in inner for one in layers(part)]


def colour_of(chart, field):
    """Return the encoding of colour of the layer whose colour shows a field."""
    found = [m["encoding"]["color"] for m in layers(chart.to_dict())
             if m["encoding"].get("color", {}).get("field") == field]  # fmt: skip
    assert len(found) == 1
    return found[0]


def rows_behind(chart, field):
    spec = chart.to_dict()
    for mark in layers(spec):
        if field in json.dumps(mark["encoding"]):
            return spec["datasets"][mark.get("data", spec.get("data"))["name"]]
    return None


def pixels(png):
    """Return the filtered scan lines of a PNG: bytes that all are alike where it is blank."""
    at, idat = 8, b""
    while at < len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        if png[at + 4 : at + 8] == b"IDAT":
            idat += png[at + 8 : at + 8 + length]
        at += length + 12
    return zlib.decompress(idat)


def render(chart):
    with alt.theme.enable(LIGHT.theme):
        return vl_convert.vegalite_to_png(chart.to_dict(), vl_version="v6_4")
