"""Preference data: loaders for each accepted format, and the checks that name the row that is wrong."""
