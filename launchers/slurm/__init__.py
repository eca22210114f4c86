"""The same run on a Slurm cluster: render and submit a job; inside it, start every rank; after a signal, queue it again."""
