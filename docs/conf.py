"""How Sphinx makes a site of these pages: `make docs`.

The pages are plain Markdown, so that they read as well in a code browser. What only the site needs is here.
"""

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]

# Heading in the sidebar → its pages, in reading order.
CONTENTS = {
    "Start": [
        "first-loop",
        "Overview, with all settings <overview>",
        "dashboard",
        "tasks",
        "troubleshooting",
    ],
    "Choose": ["choosing-a-strategy", "simulator", "mission-figures", "comparison"],
    "Run": ["how-it-works", "deployment", "security", "metrics"],
    "Extend": ["your-own", "strategies-api", "contributing"],
}

project = "Active learning for Label Studio"
html_title = project
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
nitpicky = True
# Types of other packages; their documentation is not here.
nitpick_ignore_regex = [("py:.*", r"(?!strategies\.|backend\.).*")]

myst_heading_anchors = 4
default_role = "code"
highlight_language = "text"  # of blocks that name none
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings give shapes
maximum_signature_line_length = 100

html_theme = "furo"
html_css_files = ["site.css"]
html_static_path = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
pygments_style = "friendly"
pygments_dark_style = "github-dark-high-contrast"


def complete_page(_app: Sphinx, name: str, source: list[str]) -> None:
    """Give the index its table of contents, make the overview of the README, and have links to that lead there."""
    if name == "overview":
        source[0] = (ROOT / "README.md").read_text().replace("](docs/", "](")
    elif name == "index":
        source[0] += "".join(map(table_of_contents, CONTENTS))
    source[0] = source[0].replace("](../README.md", "](overview.md")


def table_of_contents(heading: str) -> str:
    """A hidden one, for the sidebar."""
    pages = "\n".join(CONTENTS[heading])
    return f"\n```{{toctree}}\n:hidden:\n:caption: {heading}\n\n{pages}\n```\n"


def list_fields(_app: Sphinx, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Our docstrings tell of fields and parameters in lines such as `size: how many`; Sphinx wants `:param size:`."""
    lines[:] = [re.sub(r"^(\w+): ", r":param \1: ", line) for line in lines]


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", complete_page)
    app.connect("autodoc-process-docstring", list_fields)
