// A program with code for a GPU in the section .nv_fatbin, which it hands to the driver. It says what came of it.
//
//	gpuprobe                    loads the code and runs it: "42" if all went well, or the step and the driver's error
//	gpuprobe describe           the GPU's compute capability and name
//	gpuprobe link PTX CUBIN     has the driver compile a file for this GPU
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__asm__(".section .nv_fatbin,\"a\"\n.balign 8\n.global fatbin\nfatbin:\n.incbin \"" FATBIN "\"\n.text\n");
extern const char fatbin[];

typedef unsigned long long ptr;

static void *driver;

static void *sym(const char *name) {
	void *f = dlsym(driver, name);
	if (!f) {
		printf("no %s\n", name);
		exit(2);
	}
	return f;
}

// DO calls a function of the driver, and ends the program if it fails.
#define DO(name, types, ...)                                \
	do {                                                    \
		int e = ((int(*) types)sym(#name))(__VA_ARGS__);    \
		if (e) {                                            \
			printf("%s: error %d\n", #name, e);             \
			exit(1);                                        \
		}                                                   \
	} while (0)

static char *slurp(const char *name) {
	FILE *f = fopen(name, "rb");
	char *b = calloc(1, 1 << 20);
	if (!f || fread(b, 1, (1 << 20) - 1, f) == 0) {
		perror(name);
		exit(2);
	}
	fclose(f);
	return b;
}

int main(int argc, char **argv) {
	int dev = 0, major = 0, minor = 0, answer = 0;
	void *ctx, *mod, *fn, *link, *cubin;
	size_t size;
	ptr out;
	char name[128] = "";

	driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
	if (!driver) {
		printf("%s\n", dlerror());
		return 2;
	}
	DO(cuInit, (unsigned), 0);
	DO(cuDeviceGet, (int *, int), &dev, 0);
	if (argc > 1 && !strcmp(argv[1], "describe")) {
		DO(cuDeviceGetAttribute, (int *, int, int), &major, 75, dev);
		DO(cuDeviceGetAttribute, (int *, int, int), &minor, 76, dev);
		DO(cuDeviceGetName, (char *, int, int), name, sizeof name, dev);
		printf("%d%d %s\n", major, minor, name);
		return 0;
	}
	DO(cuDevicePrimaryCtxRetain, (void **, int), &ctx, dev);
	DO(cuCtxSetCurrent, (void *), ctx);
	if (argc > 3 && !strcmp(argv[1], "link")) {
		char *ptx = slurp(argv[2]);
		DO(cuLinkCreate_v2, (unsigned, int *, void **, void **), 0, 0, 0, &link);
		DO(cuLinkAddData_v2, (void *, int, void *, size_t, const char *, unsigned, int *, void **), link, 1, ptx, strlen(ptx) + 1, "answer.ptx", 0, 0, 0);
		DO(cuLinkComplete, (void *, void **, size_t *), link, &cubin, &size);
		FILE *f = fopen(argv[3], "wb");
		return !f || fwrite(cubin, 1, size, f) != size || fclose(f);
	}
	DO(cuModuleLoadData, (void **, const void *), &mod, fatbin);
	DO(cuModuleGetFunction, (void **, void *, const char *), &fn, mod, "answer");
	DO(cuMemAlloc_v2, (ptr *, size_t), &out, 4);
	void *params[] = {&out};
	DO(cuLaunchKernel, (void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **), fn, 1, 1, 1, 1, 1, 1, 0, 0, params, 0);
	DO(cuCtxSynchronize, (void));
	DO(cuMemcpyDtoH_v2, (void *, ptr, size_t), &answer, out, 4);
	printf("%d\n", answer);
	return answer != 42;
}
