"""The documentation site: this repository's Markdown and generated reference pages, built offline with Sphinx."""
