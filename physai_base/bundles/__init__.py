"""Parts of a bundle: what its manifest says, and what it needs of a robot."""
