"""The embedded MuJoCo cell: an arm, a table and a task's things, seen by RGB-D cameras."""
