"""Estimators of a candidate's accuracy that need no host."""
