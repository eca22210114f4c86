"""The formats that data comes in, one per file; `pairs`, `instructions` and `labels` are what is made of them."""
