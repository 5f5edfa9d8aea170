"""python -m edm.example: add up what the GPUs of all tasks of a job have computed.

Of several tasks, each has the number RANK out of WORLD_SIZE, and takes the GPU LOCAL_RANK of its node,
or the only one that it sees. torchrun sets these variables; else those of Slurm count, SLURM_PROCID,
SLURM_NTASKS and SLURM_LOCALID. MASTER_ADDR and MASTER_PORT say where the tasks meet.
"""
import os

import torch
import torch.distributed


def number(torchrun, slurm, alone):
    return int(os.environ.get(torchrun, os.environ.get(slurm, alone)))


def main():
    rank, size = number("RANK", "SLURM_PROCID", 0), number("WORLD_SIZE", "SLURM_NTASKS", 1)
    gpu = number("LOCAL_RANK", "SLURM_LOCALID", 0) % max(torch.cuda.device_count(), 1)
    torch.cuda.set_device(gpu)
    x = torch.full((1024, 1024), rank + 1.0, device="cuda")
    total = (x @ x).sum()
    print(f"task {rank} of {size}: {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}", flush=True)
    if size > 1:
        torch.distributed.init_process_group("nccl", rank=rank, world_size=size)
        torch.distributed.all_reduce(total)
        torch.distributed.destroy_process_group()
    if rank == 0:
        print(f"sum: {total.item():.0f}")


if __name__ == "__main__":
    main()
