"""From measurements to times: the store, keys, and the Measurer protocol."""

if __name__ != "boardfront.latency_models":
    raise ImportError("import boardfront.latency_models, not latency_models")
