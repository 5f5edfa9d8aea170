/* Says which libraries the loader finds, and what is in LD_LIBRARY_PATH. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

int main(void)
{
    void *cuda = dlopen("libcuda.so.1", RTLD_NOW), *gl = dlopen("libGL.so.1", RTLD_NOW);
    const char *path = getenv("LD_LIBRARY_PATH");
    int version = 0, rc = -1;
    if (cuda) {
        ((int (*)(int *))dlsym(cuda, "cuDriverGetVersion"))(&version);
        rc = ((int (*)(unsigned))dlsym(cuda, "cuInit"))(0);
    }
    printf("cuda=%d init=%d ml=%s gl=%s path=%s\n", version, rc,
           dlopen("libnvidia-ml.so.1", RTLD_NOW) ? "yes" : "no",
           gl ? ((const char *(*)(void))dlsym(gl, "whose"))() : "none", path ? path : "-");
    return 0;
}
