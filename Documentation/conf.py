# SPDX-License-Identifier: GPL-2.0
"""For Sphinx, which tools/docs runs."""

import re

project = "L2TP in Rust"
html_theme = "alabaster"
html_theme_options = {"page_width": "84em", "show_powered_by": False}
html_sidebars = {"**": ["about.html", "navigation.html", "searchbox.html"]}
html_static_path = ["_static"]
html_copy_source = False


def link_pages(app, page, source):
    """As in the kernel's documentation, the path of a page is a reference to it."""
    source[0] = re.sub(r"\bDocumentation/(\w+)\.rst\b", r":doc:`\1`", source[0])


def setup(app):
    app.connect("source-read", link_pages)
