"""LeRobot's checkpoints read without LeRobot: files, networks, and the way to a bundle (docs/howto/import.md)."""
