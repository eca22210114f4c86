"""Finished runs, as they are read again: by the ledger, and to be compared."""
