/* Stand-ins for libraries of a host's driver, one for each macro. None needs a libc. */
extern void *dlopen(const char *, int);

#ifdef CUDA
/* libcuda.so.1, of CUDA 12.4 or, with COMPAT, 12.9. As the real one it loads its compiler by name, and has no RUNPATH. */
int cuInit(unsigned flags) { (void)flags; return dlopen("libnvidia-ptxjitcompiler.so.1", 2) ? 0 : 221; }
int cuDriverGetVersion(int *v) { *v = CUDA; return 0; }
int cuDeviceGetCount(int *n) { *n = 1; return 0; }
#endif

#ifdef EMPTY
/* libnvidia-ptxjitcompiler.so.1, libnvidia-ml.so.1 */
int present = 1;
#endif

#ifdef GL
/* libGL.so.1 of whom the macro says. That of the host needs a library that is not in the image. */
const char *whose(void) { return GL; }
#endif
