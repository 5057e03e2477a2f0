"""Supernet training and evaluation."""
