"""How processes get started. A launcher starts one stage on its ranks, waits, and raises StageFailed when one dies."""
