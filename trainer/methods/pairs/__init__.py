"""What methods share that train on preference pairs: their stages, and how pairs become datasets."""
