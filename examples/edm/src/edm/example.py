"""python -m edm.example: add up what the GPUs of all tasks of a Slurm job have computed.

Of several tasks, each has the number SLURM_PROCID out of SLURM_NTASKS, and takes the GPU SLURM_LOCALID
of its node, or the only one that it sees. MASTER_ADDR and MASTER_PORT say where the tasks meet.
"""
import os

import torch
import torch.distributed


def main():
    rank, size = int(os.environ.get("SLURM_PROCID", 0)), int(os.environ.get("SLURM_NTASKS", 1))
    gpu = int(os.environ.get("SLURM_LOCALID", 0)) % max(torch.cuda.device_count(), 1)
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
