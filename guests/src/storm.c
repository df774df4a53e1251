/* Four threads map, fill, protect and unmap neighbouring slots of one window while four others read whatever is
   there. A slot's owner publishes its number before readers may look and withdraws it before it unmaps; readers
   hold the owner off while they are inside. Every word of a slot holds the slot's round, so a translation that
   outlives munmap, or a page shared by mistake, shows as a wrong value. Argument: milliseconds (default 500); slow
   machines take more of them, until a reader has read. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { OWNERS = 4, READERS = 4, SLOTS = 32, PAGES = 5, PAGE = 4096 };

struct slot {
    uint64_t round;   /* 0: nothing to read */
    uint64_t readers;
};

static struct slot slots[SLOTS];
static char *window;
static int stop;
static uint64_t wrong, rounds, reads;

static char *place(int s) { return window + (size_t)s * PAGES * PAGE; }

static uint64_t xorshift(uint64_t *s)
{
    uint64_t x = *s;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *s = x;
}

static void *owner(void *arg)
{
    int me = (int)(intptr_t)arg;
    uint64_t rng = 88172645463325252ull + (uint64_t)me, round = 0;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        /* Neighbouring slots belong to different owners. */
        int s = (int)(xorshift(&rng) % (SLOTS / OWNERS)) * OWNERS + me;
        round++;
        uint64_t tag = round << 8 | (uint64_t)s;
        char *p = mmap(place(s), PAGES * PAGE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        if (p != place(s)) {
            __atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
            return NULL;
        }
        for (int i = 0; i < PAGES; i++) {
            uint64_t *w = (uint64_t *)(p + i * PAGE);
            if (w[0] || w[511]) {
                __atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
            }
            w[0] = tag;
            w[511] = tag;
        }
        if (round & 1) {
            mprotect(p, PAGES * PAGE, PROT_READ);
        }
        __atomic_store_n(&slots[s].round, tag, __ATOMIC_SEQ_CST);
        for (volatile int i = 0; i < 200; i++) {
        }
        if (round & 1) {
            mprotect(p + PAGE, PAGE, PROT_READ | PROT_WRITE);
            *(uint64_t *)(p + PAGE + 8) = tag;
        }
        __atomic_store_n(&slots[s].round, 0, __ATOMIC_SEQ_CST);
        while (__atomic_load_n(&slots[s].readers, __ATOMIC_SEQ_CST)) {
        }
        if (round & 2) {
            munmap(p, PAGES * PAGE);
        }
        __atomic_fetch_add(&rounds, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

static void *reader(void *arg)
{
    uint64_t rng = 1234567 + (uint64_t)(intptr_t)arg;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        int s = (int)(xorshift(&rng) % SLOTS);
        __atomic_fetch_add(&slots[s].readers, 1, __ATOMIC_SEQ_CST);
        uint64_t tag = __atomic_load_n(&slots[s].round, __ATOMIC_SEQ_CST);
        if (tag) {
            for (int k = 0; k < 8; k++) {
                uint64_t *w = (uint64_t *)(place(s) + xorshift(&rng) % PAGES * PAGE);
                if (__atomic_load_n(&w[0], __ATOMIC_RELAXED) != tag ||
                    __atomic_load_n(&w[511], __ATOMIC_RELAXED) != tag) {
                    __atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
                }
            }
            __atomic_fetch_add(&reads, 1, __ATOMIC_RELAXED);
        }
        __atomic_fetch_sub(&slots[s].readers, 1, __ATOMIC_SEQ_CST);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    long ms = argc > 1 ? atol(argv[1]) : 500;
    window = mmap(NULL, SLOTS * PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_t t[OWNERS + READERS];
    for (long i = 0; i < OWNERS; i++) {
        pthread_create(&t[i], NULL, owner, (void *)(intptr_t)i);
    }
    for (long i = 0; i < READERS; i++) {
        pthread_create(&t[OWNERS + i], NULL, reader, (void *)(intptr_t)i);
    }
    struct timespec d = { ms / 1000, ms % 1000 * 1000000 };
    do {
        nanosleep(&d, NULL);
    } while (!__atomic_load_n(&rounds, __ATOMIC_RELAXED) || !__atomic_load_n(&reads, __ATOMIC_RELAXED));
    __atomic_store_n(&stop, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < OWNERS + READERS; i++) {
        pthread_join(t[i], NULL);
    }
    printf("%s\n", wrong ? "WRONG VALUES" : "right");
    fprintf(stderr, "%llu rounds, %llu reads, %llu wrong\n", (unsigned long long)rounds, (unsigned long long)reads,
            (unsigned long long)wrong);
    return wrong != 0;
}
