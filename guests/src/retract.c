/* Threads fill neighbouring segments of one shared mapping while two others take the page tables away from under them,
   as khugepaged does: by the test hypercall that racewalk gives a guest which it watches (docs/race.md). Every word
   that was stored must be there again afterwards. Argument: rounds (default 200). Exits with 77 where there is no
   hypercall. */
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SEGMENTS = 8, FILLERS = 2, RETRACTORS = 2 };
static const size_t SEGMENT = 1 << 20, PAGE = 4096;

static char *window;
static int rounds = 200, stop;
static unsigned long retracted;

/* Retracts the table of the segment at `at`: 1 if there was one. */
static long retract(void *at)
{
    register unsigned long what __asm__("2") = 1;
    register void *where __asm__("3") = at;
    __asm__ volatile("diag %0,%1,0x500" : "+d"(what) : "d"(where) : "memory");
    return (long)what;
}

static void none(int sig)
{
    static const char text[] = "no test hypercall here\n";
    ssize_t n = write(2, text, sizeof text - 1);
    _exit(sig == SIGILL && n > 0 ? 77 : 78);
}

static void *retractor(void *arg)
{
    unsigned long n = (unsigned long)(uintptr_t)arg;
    while (!__atomic_load_n(&stop, __ATOMIC_SEQ_CST)) {
        long r = retract(window + n++ % SEGMENTS * SEGMENT);
        if (r < 0) {
            fprintf(stderr, "the hypercall failed\n");
            exit(1);
        }
        __atomic_fetch_add(&retracted, (unsigned long)r, __ATOMIC_SEQ_CST);
    }
    return NULL;
}

static void *filler(void *arg)
{
    unsigned long me = (unsigned long)(uintptr_t)arg, wrong = 0;
    for (int r = 1; r <= rounds; r++) {
        for (int s = 0; s < SEGMENTS; s++) {
            volatile unsigned long *word = (unsigned long *)(window + s * SEGMENT + me * PAGE);
            if (r > 1 && *word != (unsigned long)(r - 1) * 16 + s) {
                wrong++;
            }
            *word = (unsigned long)r * 16 + s;
        }
    }
    return (void *)(uintptr_t)wrong;
}

int main(int argc, char **argv)
{
    signal(SIGILL, none);
    if (argc > 1) {
        rounds = atoi(argv[1]);
    }
    char *all = mmap(NULL, (SEGMENTS + 1) * SEGMENT, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) {
        return 1;
    }
    window = (char *)(((uintptr_t)all + SEGMENT - 1) & ~(uintptr_t)(SEGMENT - 1));
    pthread_t f[FILLERS], t[RETRACTORS];
    for (unsigned long i = 0; i < RETRACTORS; i++) {
        pthread_create(&t[i], NULL, retractor, (void *)(uintptr_t)i);
    }
    for (unsigned long i = 0; i < FILLERS; i++) {
        pthread_create(&f[i], NULL, filler, (void *)(uintptr_t)i);
    }
    unsigned long wrong = 0;
    for (int i = 0; i < FILLERS; i++) {
        void *r;
        pthread_join(f[i], &r);
        wrong += (unsigned long)(uintptr_t)r;
    }
    __atomic_store_n(&stop, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < RETRACTORS; i++) {
        pthread_join(t[i], NULL);
    }
    printf("%lu wrong; tables were retracted: %s\n", wrong, retracted ? "yes" : "no");
    return wrong != 0 || retracted == 0;
}
