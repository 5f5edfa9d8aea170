/* The program of the closure that ships with nix2img: it greets, and says what it sees.
 *
 * usage: hello [ARGUMENT...]
 *
 * OUT, TALE, GREETING and ODDITIES are store paths, given by the compiler's command line.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int failures;

static void say_file(const char *name, const char *path)
{
	FILE *f = fopen(path, "rb");
	uint64_t size = 0, sum = 0xcbf29ce484222325; /* FNV-1a, 64 bits */
	int c;

	if (!f) {
		printf("%s: missing\n", name);
		failures++;
		return;
	}
	while ((c = getc(f)) != EOF) {
		sum = (sum ^ (unsigned char)c) * 0x100000001b3;
		size++;
	}
	fclose(f);
	printf("%s: %llu bytes, checksum %016llx\n", name, (unsigned long long)size, (unsigned long long)sum);
}

static void say_directory(const char *name, const char *path)
{
	DIR *d = opendir(path);
	struct dirent *entry;
	int n = 0;

	if (!d) {
		printf("%s: missing\n", name);
		failures++;
		return;
	}
	while ((entry = readdir(d)))
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			n++;
	closedir(d);
	printf("%s: %d entries\n", name, n);
}

static void say_whether(const char *path)
{
	printf("%s: %s\n", path, access(path, F_OK) ? "no" : "yes");
}

int main(int argc, char **argv)
{
	char line[256];
	const char *path = getenv("PATH");
	struct stat st;
	FILE *f = fopen(GREETING, "r");

	if (!f || !fgets(line, sizeof line, f)) {
		fputs("hello: cannot read " GREETING "\n", stderr);
		return 1;
	}
	fclose(f);
	fputs(line, stdout);

	printf("arguments:");
	for (int i = 1; i < argc; i++)
		printf(" [%s]", argv[i]);
	printf("\nPATH: %s\n", path ? path : "(not set)");
	say_file("tale", TALE "/share/tale.txt");
	say_directory("oddities", ODDITIES);
	if (!stat(OUT "/bin/hello", &st))
		printf("time of hello: %lld\n", (long long)st.st_mtime);
	say_whether("/etc/passwd");
	say_whether("/tmp");
	return failures != 0;
}
