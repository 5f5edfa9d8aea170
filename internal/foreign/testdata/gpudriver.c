// A stand-in for libcuda.so.1 on a machine with an A100 and driver 550.54.14. It takes containers of CUDA with
// machine code for sm_80, or with PTX up to version 8.4, for what computes 42.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int cuInit(unsigned flags) { return 0; }
int cuDeviceGet(int *dev, int i) { return *dev = 0; }
int cuDeviceGetAttribute(int *v, int attribute, int dev) {
	*v = attribute == 75 ? 8 : 0;
	return 0;
}
int cuDeviceGetName(char *name, int n, int dev) {
	strcpy(name, "NVIDIA A100-SXM4-80GB");
	return 0;
}
int cuDevicePrimaryCtxRetain(void **ctx, int dev) { return 0; }
int cuCtxSetCurrent(void *ctx) { return 0; }
int cuLinkCreate_v2(unsigned n, int *o, void **v, void **link) { return 0; }
int cuLinkAddData_v2(void *link, int type, void *data, size_t n, const char *name, unsigned k, int *o, void **v) {
	return strstr(data, ".version 6.0") ? 0 : 218;
}
int cuLinkComplete(void *link, void **cubin, size_t *size) {
	*size = 4096;
	*cubin = calloc(1, *size);
	memset(*cubin, 'c', *size);
	return 0;
}
int cuModuleLoadData(void **mod, const void *image) {
	const char *p = image;
	uint64_t left;
	int error = 209; // no kernel image
	memcpy(&left, p + 8, 8);
	for (p += 16; left >= 64;) {
		uint32_t header, sm;
		uint64_t payload;
		uint16_t kind, minor, major;
		memcpy(&kind, p, 2), memcpy(&header, p + 4, 4), memcpy(&payload, p + 8, 8), memcpy(&sm, p + 28, 4);
		memcpy(&minor, p + 24, 2), memcpy(&major, p + 26, 2);
		if (kind == 2 && sm == 80)
			return 0;
		if (kind == 1 && sm <= 80) {
			if (major * 10 + minor <= 84)
				return 0;
			error = 222; // unsupported PTX
		}
		p += header + payload, left -= header + payload;
	}
	return error;
}
int cuModuleGetFunction(void **fn, void *mod, const char *name) { return 0; }
int cuMemAlloc_v2(unsigned long long *p, size_t n) { return !(*p = (uintptr_t)calloc(1, n)); }
int cuLaunchKernel(void *fn, unsigned a, unsigned b, unsigned c, unsigned d, unsigned e, unsigned f, unsigned g, void *s, void **params, void **x) {
	*(int *)(uintptr_t) * (unsigned long long *)params[0] = 42;
	return 0;
}
int cuCtxSynchronize(void) { return 0; }
int cuMemcpyDtoH_v2(void *to, unsigned long long from, size_t n) {
	memcpy(to, (void *)(uintptr_t)from, n);
	return 0;
}
