"""Robot files: drafted from a maker's model, checked, and tried."""
