"""The whole stack in one process, and what comes of many episodes."""
