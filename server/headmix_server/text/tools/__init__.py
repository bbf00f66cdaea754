"""Tool calls: how a family of models writes them, the grammar of its format, and the reader of what a model wrote."""
