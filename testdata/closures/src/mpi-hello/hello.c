/* Says how many processes there are, that they reach each other, and which file their MPI is. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <mpi.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
  int rank, size, sum, length;
  char version[MPI_MAX_LIBRARY_VERSION_STRING];
  Dl_info info;

  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
  MPI_Get_library_version(version, &length);
  version[strcspn(version, "\n,")] = 0;
  if (rank == 0) {
    dladdr((void *)MPI_Init, &info);
    printf("%d processes, sum %d, %s, %s\n", size, sum, version, info.dli_fname);
  }
  MPI_Finalize();
  return 0;
}
