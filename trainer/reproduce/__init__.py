"""The table of a paper, with the rows of this project beside the published ones."""
