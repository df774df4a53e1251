/* Prints its arguments and exits with a status of its own. */
#include <stdio.h>

int main(int argc, char **argv)
{
    printf("hello from s390x, %d argument%s\n", argc - 1, argc == 2 ? "" : "s");
    for (int i = 1; i < argc; i++) {
        printf("  %d: %s\n", i, argv[i]);
    }
    return 7;
}
