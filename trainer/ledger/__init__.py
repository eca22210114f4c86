"""One row per model of every evaluated run, in Parquet: a file per run, so that jobs never write to the same one."""
