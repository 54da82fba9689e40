"""The site: ``sphinx-build -W -c docs . build/site`` from the checkout's top.

The source is the checkout itself, so that pages, notebooks and benchmarks link to each other by the
same paths here and on GitHub. Only what `include_patterns` names becomes a page.
"""

from __future__ import annotations

import sys
from pathlib import Path

from connprops import __version__

_DOCS = Path(__file__).parent
sys.path.insert(0, str(_DOCS / "_extensions"))

project = "connprops"
author = "The connprops authors"
copyright = author  # noqa: A001 - what Sphinx calls it
version = release = __version__

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "command_pages",
    "contents",
]
root_doc = "docs/index"
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb", ".ipynb": "myst-nb"}
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docs/**.md",
    "docs/api/*.rst",
    "notebooks/*.ipynb",
    "benchmarks/README.md",
]
exclude_patterns = [".*", "**/.*", "build", "dist", "src", "sql", "tests", "**/connprops-notebooks"]

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 4  # the same names as GitHub gives

# The tests run the notebooks and keep their outputs here; the site runs what is not kept.
nb_execution_mode = "cache"
nb_execution_cache_path = str(_DOCS.parent / "build" / "notebooks")
nb_execution_in_temp = True
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_output_stderr = "warn"
nb_merge_streams = True
suppress_warnings = ["mystnb.unknown_mime_type"]  # charts come as specifications and as pictures

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

templates_path = [str(_DOCS / "_templates")]
html_theme = "pydata_sphinx_theme"
html_title = f"connprops {__version__}"
html_show_sourcelink = False
html_sidebars = {"**": ["pages.html"]}
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "navbar_center": [],
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}
