"""Many runs from one command: their points, the journal of what became of them, and who starts them."""
