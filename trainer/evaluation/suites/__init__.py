"""What models are asked, one suite per file."""
