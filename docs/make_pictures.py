"""Draw the pictures of the README anew: ``python docs/make_pictures.py RUN``, a run of the demo.

Needs Chromium, for that of the report, and Pillow, to make the files small.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import altair as alt
from PIL import Image

import connprops as cp
from connprops.charts.theme import LIGHT

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))

_PATHWAY = ("L5_TTPC1", "L5_TTPC1")
_MAPPED, _OPENED = "facilitation_time", ("conductance", "n_syn_per_conn")


def main(run: Path) -> None:
    """Write maps.png, pathway.png and report.png."""
    from benchmarks.chromium import Browser

    stats, model = cp.read_statistics(run), cp.read_model(run / "model.parquet")
    charts = cp.plot(stats, model, properties=[_MAPPED, *_OPENED], pathway=_PATHWAY)
    first, second = _OPENED
    pictures = {
        "maps": charts[f"std_{_MAPPED}"],
        "pathway": alt.hconcat(
            charts[f"histogram_{first}"], charts[f"cdf_{first}"], charts[f"histogram_{second}"]
        ).resolve_scale(color="independent"),
    }
    with alt.theme.enable(LIGHT.theme):
        for name, chart in pictures.items():
            chart.save(str(DOCS / f"{name}.png"))
    with tempfile.TemporaryDirectory() as folder:
        page = cp.report(stats, model, Path(folder) / "report.html", title="connprops-demo")
        with Browser(Path(folder) / "profile", width=1440, height=1330) as browser:
            browser.open(page)
            browser.wait("document.documentElement?.dataset.ready")
            source, target = map(repr, _PATHWAY)
            browser.evaluate(
                f"open(index.sources.indexOf({source}) * nTargets"
                f" + index.targets.indexOf({target}))"
            )
            browser.evaluate("document.getElementById('maps-heading').scrollIntoView()")
            browser.evaluate("document.documentElement.style.scrollbarWidth = 'none'")
            browser.picture(DOCS / "report.png")
    for name in (*pictures, "report"):
        file = DOCS / f"{name}.png"
        Image.open(file).convert("RGB").save(file, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
