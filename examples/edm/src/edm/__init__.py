"""A program that computes on all GPUs of a Slurm job."""
