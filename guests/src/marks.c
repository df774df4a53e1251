/* Stores to three pages, each between two marks: 0 first 1 second 2 third 3. Prints the addresses of the pages. Exits with 77
   where there are no marks (docs/recordings.md). */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

enum { PAGE = 4096, TIMES = 100 };
static volatile unsigned char pages[3][PAGE] __attribute__((aligned(4096)));

static void mark(unsigned long n)
{
    register unsigned long what __asm__("2") = 3;
    register unsigned long which __asm__("3") = n;
    __asm__ volatile("diag %0,%1,0x500" : "+d"(what) : "d"(which) : "memory");
}

static void none(int sig)
{
    _exit(sig == SIGILL ? 77 : 78);
}

int main(void)
{
    signal(SIGILL, none);
    printf("%p %p %p\n", (void *)pages[0], (void *)pages[1], (void *)pages[2]);
    fflush(stdout);
    mark(0);
    for (int p = 0; p < 3; p++) {
        for (int i = 0; i < TIMES; i++) {
            pages[p][i] = (unsigned char)(i + 1);
        }
        mark((unsigned long)p + 1);
    }
    return 0;
}
