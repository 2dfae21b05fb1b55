"""The fault campaign: F1 to F27 against the control core, judged by the plant's own log (docs/reference/faults.md)."""
