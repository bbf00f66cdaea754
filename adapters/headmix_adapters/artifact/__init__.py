"""The artifact: an adapter's one safetensors file, read, judged, written and named by its digest."""
