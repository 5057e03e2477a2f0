"""A finished run's network as files that a product can take over."""
