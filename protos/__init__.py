"""What host and agent may both know: records, their wire format, errors, statistics."""

if __name__ != "boardfront.protos":
    raise ImportError("import boardfront.protos, not protos")
