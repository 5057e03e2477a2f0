"""What runs on a board: a gRPC server, its jobs, the workers it spawns, backends."""

if __name__ != "boardfront.device_agent":
    raise ImportError("import boardfront.device_agent, not device_agent")
