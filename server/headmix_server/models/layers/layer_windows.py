"""Which layers attend through a sliding window, from the config fields that Qwen and Gemma share."""

from collections.abc import Sequence

from headmix_server.models.loading.config_reader import ConfigReader

FULL, SLIDING = "full_attention", "sliding_attention"


def read_windows(reader: ConfigReader, num_layers: int) -> tuple[int | None, ...]:
    """Return every layer's window in tokens, None if it attends to all earlier ones; reads a config like Qwen's."""
    wanted = reader.flag("use_sliding_window", default=False)
    window, first = reader.get("sliding_window"), reader.get("max_window_layers")
    given = reader.get("layer_types")
    if not wanted:
        window = None
    if isinstance(given, list):
        kinds = [str(kind) for kind in given]
    else:
        from_layer = num_layers if window is None else first
        if not isinstance(from_layer, int):
            reader.fault("use_sliding_window without max_window_layers")
            from_layer = 0
        kinds = [FULL if layer < from_layer else SLIDING for layer in range(num_layers)]
    return windows_of(reader, kinds, window, num_layers)


def windows_of(reader: ConfigReader, kinds: Sequence[str], window: object, num_layers: int) -> tuple[int | None, ...]:
    """Return the layers' windows, given the kind of each layer."""
    if len(kinds) != num_layers or not set(kinds) <= {FULL, SLIDING}:
        reader.fault(f"layer_types {list(kinds)} for {num_layers} layers")
        return (None,) * num_layers
    if SLIDING not in kinds:
        return (None,) * num_layers
    if not isinstance(window, int) or window < 1:
        reader.fault(f"layers of type {SLIDING} with a sliding_window of {window}")
        return (None,) * num_layers
    return tuple(window if kind == SLIDING else None for kind in kinds)
