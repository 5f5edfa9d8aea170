/* The smallest interpreter: `say SCRIPT` prints the lines of SCRIPT but the first,
 * which is its "#!".  So the closure has an executable script and needs no shell. */
#include <stdio.h>

int main(int argc, char **argv)
{
	FILE *f = argc < 2 ? NULL : fopen(argv[1], "r");
	int c;

	if (!f) {
		fputs("usage: say SCRIPT\n", stderr);
		return 2;
	}
	while ((c = getc(f)) != EOF && c != '\n')
		;
	while ((c = getc(f)) != EOF)
		putchar(c);
	return 0;
}
