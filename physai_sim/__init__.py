"""The embedded MuJoCo cell: an arm, a table, three cups and a shelf, seen by two RGB-D cameras."""
