"""Generate, judge, score, compare."""
