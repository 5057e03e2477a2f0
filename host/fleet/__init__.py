"""Talking to agents: client, local agent, the Measurer."""
