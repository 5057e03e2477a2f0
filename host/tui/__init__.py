"""The screens of the terminal: what `host.view` knows, drawn."""
