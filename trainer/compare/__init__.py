"""Runs side by side: what differs between them, what safety cost in each, and which differences are more than noise."""
