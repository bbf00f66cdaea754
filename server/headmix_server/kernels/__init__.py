"""Tensors in, tensors out: adapters' terms by row, attention, products, row operations and sampling."""
