"""A run's records, told to the trackers that people look at already."""
