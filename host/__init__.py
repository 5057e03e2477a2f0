"""What a person runs: commands, fleet, data, supernet training, export."""

if __name__ != "boardfront.host":
    raise ImportError("import boardfront.host, not host")
