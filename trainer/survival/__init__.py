"""What makes a run outlive signals, crashes, full disks, bad batches and hung ranks."""
