"""The documentation site: the Markdown of this repository and generated reference pages, built by Sphinx, offline."""
