"""How Sphinx builds the documentation (`make docs`), without a network."""

import importlib.metadata
import os
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for gallery_settings
# The examples are small; where the cores are busy, a second thread costs them more than it gives.
os.environ.update(FASTRNN_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

project = "fastrnn"
author = "The fastrnn developers"
release = version = importlib.metadata.version("fastrnn")

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
nitpicky = True
suppress_warnings = ["myst.header"]  # what a program wrote (benchmarks-zen3.md) skips a level
highlight_language = "text"  # of blocks that do not name theirs: formulas, commands
myst_heading_anchors = 3

# The reference. Types stand in the docstrings, in the words of numpydoc.
default_role = "py:obj"
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False  # _templates/autosummary/class.rst shows them
numpydoc_class_members_toctree = False

# The look: fonts are the reader's own, nothing is fetched from anywhere.
html_theme = "furo"
html_title = f"fastrnn {release}"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False


sphinx_gallery_conf = {
    "examples_dirs": ["../examples"],
    "gallery_dirs": ["gallery"],
    "filename_pattern": r"/(?!torch_)\w+\.py$",  # all are executed but those that need torch
    "reset_argv": "gallery_settings.arguments",
    "reset_modules": ("matplotlib", "gallery_settings.picture_style"),
    "image_scrapers": ("matplotlib", "gallery_settings.written_pictures"),
    "capture_repr": (),
    "default_thumb_file": str(Path(__file__).parent / "_static" / "text.png"),
    "download_all_examples": False,
    "show_memory": False,
    "write_computation_times": False,
    "show_signature": False,
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": False,
    "only_warn_on_example_error": False,
}


def link_to_pages(app, document, source):
    """Lead links to files outside of docs/, good on a code host, to the pages made of them."""
    up = "../" * document.count("/")
    text = source[0]
    text = re.sub(
        r"(?<!\[)`examples/(\w+)\.py`(?!\])", r"[`examples/\1.py`](../examples/\1.py)", text
    )
    text = re.sub(r"\]\((?:\.\./)+examples/(\w+)\.py\)", rf"]({up}gallery/\1.rst)", text)
    source[0] = re.sub(r"\]\((?:\.\./)+CONTRIBUTING\.md\)", rf"]({up}contributing.md)", text)


def link_in_included(app, relative, parent, content):
    """Lead links between the files of the top folder to the pages that include them."""
    content[0] = content[0].replace("(CHANGELOG.md)", "(changelog.md)")


def short_name(app, env, node, contnode):
    """Resolve `LSTM` and `Layer.vjp` wherever they are documented; leave `x` as it is."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"].rstrip("()")
    objects = env.get_domain("py").objects
    found = {name for name in objects if name == target or name.endswith(f".{target}")}
    best = min(found, key=lambda name: (name.count("."), name), default=None)
    if best is None or not re.fullmatch(r"[\w.]+", target):
        return contnode
    return app.builder.env.get_domain("py").resolve_xref(
        env, node["refdoc"], app.builder, "obj", best, node, contnode
    )


def skip_others(app, what, name, item, skip, options):
    """Leave out scikit-learn's members, and fields of a NamedTuple, which its docstring lists."""
    is_field = (getattr(item, "__doc__", "") or "").startswith("Alias for field")
    is_foreign = (getattr(item, "__module__", "") or "").startswith("sklearn.")
    return True if is_field or is_foreign else None


def setup(app):
    """Register the functions above."""
    app.connect("autodoc-skip-member", skip_others)
    app.connect("source-read", link_to_pages)
    app.connect("include-read", link_in_included)
    app.connect("missing-reference", short_name)
