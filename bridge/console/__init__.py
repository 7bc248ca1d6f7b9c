"""The page at ``/``: live calls and their timelines. Asks the API, knows nothing else."""
