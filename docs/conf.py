"""Sphinx builds the site from this. Nothing is fetched: no fonts, scripts or inventories of other sites."""

import os
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]
# Tutorials run in processes of their own, which must find the checkout, and must not use the network.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
# IPython and Jupyter write into the user's home folder otherwise; corrections of the tutorials must not get there.
for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "INNERTUNE_DATA", "INNERTUNE_CACHE"):
    os.environ.setdefault(name, str(HERE / "_build" / name.lower()))
os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"

project = "innertune"
author = "the innertune authors"
copyright = "the innertune authors"
version = release = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon", "results", "options"]
exclude_patterns = ["_build", "_ext"]
nitpicky = False
default_role = "literal"  # docstrings write code in single backquotes

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist", "attrs_inline"]
myst_heading_anchors = 4

nb_execution_mode = "cache"
nb_execution_cache_path = str(HERE / "_build" / "tutorials")
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_execution_in_temp = True
nb_merge_streams = True
nb_output_stderr = "remove"  # progress and advice of libraries, with paths of the machine that builds
nb_ipywidgets_js = {}  # these would be fetched from another site

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autosummary_generate = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
add_module_names = False

html_theme = "furo"
html_title = "innertune"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
pygments_style = "default"
pygments_dark_style = "github-dark"
