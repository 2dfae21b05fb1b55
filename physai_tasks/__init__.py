"""One package for each task: what stands there, how it is built and randomized, when it is done, what a policy sees of it."""
