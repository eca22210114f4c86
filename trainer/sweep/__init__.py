"""Many runs from one command: their points, the ledger of what became of them, and who starts them."""
