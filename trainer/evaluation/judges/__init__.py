"""Who judges what they answer, one judge per file."""
