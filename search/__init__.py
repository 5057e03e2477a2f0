"""Spaces, objectives, estimators, search algorithms, fronts."""

if __name__ != "boardfront.search":
    raise ImportError("import boardfront.search, not search")
