"""How processes get started. A launcher starts one stage on its ranks, waits, and raises when one of them fails."""
