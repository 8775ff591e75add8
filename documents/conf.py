"""Sphinx reads this. Pages are Markdown (MyST); nothing on them is loaded from elsewhere."""

from pathlib import Path

from documents.pages import version as installed

project = "derm"
author = "the contributors of derm"
copyright = "the contributors of derm. Research use only. Not a medical device and not a diagnosis"
version = release = installed()

extensions = ["myst_parser"]
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]
smartquotes = False  # an option is --plant, with two hyphens
highlight_language = "none"  # a block without a language is what a terminal shows
html_theme = "furo"
html_title = f"derm {release}"
html_static_path = ["static"]
html_css_files = ["derm.css"]
templates_path = ["templates"]
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "versions.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}
html_copy_source = False
html_show_sourcelink = False
html_last_updated_fmt = None  # the same sources give the same pages
html_theme_options = {
    "navigation_with_keys": True,
    "light_css_variables": {"color-brand-primary": "#0b6e6e", "color-brand-content": "#0b6e6e"},
    "dark_css_variables": {"color-brand-primary": "#5cc8c2", "color-brand-content": "#5cc8c2"},
}


def by_keyboard(app, pagename, templatename, context, doctree):
    """What scrolls can be reached by the keyboard, and a heading of the contents says its level (axe asks for both)."""
    for part in ("body", "furo_navigation_tree"):
        text = context.get(part) or ""
        text = text.replace('class="caption" role="heading"', 'class="caption" role="heading" aria-level="2"')
        text = text.replace("<pre>", '<pre tabindex="0">')
        context[part] = text.replace('<div class="table-wrapper', '<div tabindex="0" class="table-wrapper')


# what the theme writes → what a screen reader can tell apart
NAMED = {
    '<aside class="sidebar-drawer">': '<aside class="sidebar-drawer" aria-label="Pages">',
    '<aside class="toc-drawer">': '<aside class="toc-drawer" aria-label="On this page">',
    '<th class="head"><p></p></th>': '<td class="head"></td>',
}


def by_name(app, failed):
    """Landmarks have names, and an empty cell is no heading (axe asks for both)."""
    for path in Path(app.outdir).rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        for written, named in NAMED.items():
            text = text.replace(written, named)
        path.write_text(text, encoding="utf-8")


def setup(app):
    app.connect("html-page-context", by_keyboard, priority=900)  # after the theme has made its contents
    app.connect("build-finished", by_name)
