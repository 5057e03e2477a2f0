"""One module a command: wires the parts together."""
