/* Dies in the way its argument says. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char constant[] = "read only";
static char code[] = { 0x07, (char)0xfe };   /* br %r14, in data */

__attribute__((noinline)) static int deep(int n)
{
    volatile char frame[4096];
    frame[0] = (char)n;
    return deep(n + 1) + frame[0];
}

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "";
    if (!strcmp(how, "null")) {
        *(volatile int *)0 = 1;
    } else if (!strcmp(how, "read-null")) {
        return *(volatile int *)8;
    } else if (!strcmp(how, "exec-data")) {
        ((void (*)(void))code)();
    } else if (!strcmp(how, "write-readonly")) {
        *(volatile char *)constant = 'R';
    } else if (!strcmp(how, "stack")) {
        return deep(0);
    } else if (!strcmp(how, "illegal")) {
        asm volatile(".short 0");
    } else if (!strcmp(how, "divide")) {
        volatile int zero = 0;
        return 100 / zero;
    } else if (!strcmp(how, "abort")) {
        abort();
    } else {
        fprintf(stderr, "crash: null, read-null, exec-data, write-readonly, stack, illegal, divide or abort\n");
        return 2;
    }
    puts("still alive");
    return 0;
}
