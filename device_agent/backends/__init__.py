"""Backends: what executes a network on a device."""
