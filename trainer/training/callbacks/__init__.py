"""What happens during training besides training; one concern a file."""
