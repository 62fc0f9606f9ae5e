"""How the book is built from the saved notebooks, the guides beside them, and the docstrings.

    python -m sphinx -W --keep-going -c tutorials/book tutorials build/book

Nothing is executed: what is shown is what the notebooks were saved with, which the tests prove.
`LIGHTNING_RL_REPOSITORY=owner/name`, a repository on GitHub, adds "open in Colab" to notebooks.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from docstrings import as_restructured_text

repository = os.environ.get("LIGHTNING_RL_REPOSITORY", "")

project = "lightning_rl"
author = "the authors of lightning_rl"
project_copyright = author
release = importlib.metadata.version("lightning_rl")

root_doc = "index"
extensions = [
    "myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "sphinx_design",
]  # fmt: skip
exclude_patterns = ["assignments", "build", "**.ipynb_checkpoints"]
default_role = "code"  # the docstrings' single backticks
highlight_language = "none"  # formulas are not Python

myst_enable_extensions = ["amsmath", "dollarmath", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "off"
nb_merge_streams = True

suppress_warnings = ["ref.python"]  # two classes may have a field of one name
napoleon_custom_sections = ["Returns", "Reference"]  # texts, not `type: text`
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True, "exclude-members": "set"}
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

html_theme = "sphinx_book_theme"
html_title = "lightning_rl"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_theme_options = {
    "home_page_in_toc": True,
    "show_toc_level": 2,
    "navbar_persistent": [],  # the sidebar has the search
    "use_download_button": True,
    "use_fullscreen_button": False,
}
if repository:
    html_theme_options |= {
        "repository_url": f"https://github.com/{repository}",
        "repository_branch": "main",
        "path_to_docs": "tutorials",
        "use_repository_button": True,
        "launch_buttons": {"colab_url": "https://colab.research.google.com"},
    }


def setup(app: Any) -> None:
    """Read docstrings before napoleon does."""
    app.connect("autodoc-process-docstring", as_restructured_text, priority=400)
