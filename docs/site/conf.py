"""Sphinx's configuration of the site: MyST reads the Markdown as GitHub does, Furo is the theme, nothing is fetched."""

project = "headmix"
html_title = "headmix"
extensions = ["myst_parser"]

myst_heading_anchors = 4
myst_disable_syntax = ["myst_block_break", "myst_line_comment", "myst_role", "myst_target"]
suppress_warnings = ["misc.highlighting_failure"]  # JSON that contains `...`

html_theme = "furo"
html_static_path = ["theme"]
html_css_files = ["site.css"]
smartquotes = False
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
pygments_style = "friendly"
