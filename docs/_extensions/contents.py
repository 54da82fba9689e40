"""The site's table of contents, which GitHub, where the index has links, need not show."""

from __future__ import annotations

from typing import Any

CONTENTS = {
    "Start": ["README </README>", "/notebooks/tour"],
    "Use": [
        "/docs/commands",
        "/docs/python",
        "/docs/sql",
        "/docs/tables",
        "/docs/model-format",
        "/docs/cluster",
        "/docs/trust",
    ],
    "Numbers": ["/docs/numbers", "/docs/recovery", "/docs/differences", "/benchmarks/README"],
    "Notebooks": [
        "/notebooks/statistics",
        "/notebooks/distributions",
        "/notebooks/comparing",
        "/notebooks/table_to_model",
        "/notebooks/many_types",
        "/notebooks/drawing",
        "/notebooks/from_connectome_manipulator",
    ],
    "Develop": ["/docs/architecture", "/docs/decisions/index", "/CONTRIBUTING", "/CHANGELOG"],
}


def _toctree(*, options: str, pages: list[str]) -> str:
    return "\n".join(["\n```{toctree}", ":hidden:", options, *pages, "```\n"])


def _add(_: Any, page: str, source: list[str]) -> None:
    if page == "docs/index":
        for caption, pages in CONTENTS.items():
            source[0] += _toctree(options=f":caption: {caption}", pages=pages)
    elif page == "docs/commands":
        source[0] += _toctree(options=":glob:", pages=["/docs/commands/*"])
    elif page == "docs/decisions/index":
        source[0] += _toctree(options=":glob:", pages=["/docs/decisions/*"])


def setup(app: Any) -> dict[str, bool]:
    """Add tables of contents to what is read."""
    app.connect("source-read", _add)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
