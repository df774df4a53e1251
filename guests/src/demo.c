/* What `racewalk demo` runs: four threads that map, fill, protect, read and unmap memory of their own while they
   share a counter and a table under a lock. The sums are known beforehand, so the guest can tell if any access
   went to the wrong page. */
#include "free.h"

enum { THREADS = 4, ROUNDS = 60, PAGES = 48, PAGE = 4096, STACK = 64 << 10 };

static u32 mutex;
static u64 table[256];
static u64 counter;
static u64 wrong;
static u32 done[THREADS];
static u64 sums[THREADS];

static u64 next(u64 *state)
{
    u64 x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

static void worker(void *arg)
{
    u64 id = (u64)arg;
    u64 random = 0x9e3779b97f4a7c15ull + id;
    u64 sum = 0;
    for (int round = 0; round < ROUNDS; round++) {
        u64 *m = map(PAGES * PAGE, PROT_READ | PROT_WRITE);
        if (!m) {
            __atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
            return;
        }
        for (int p = 0; p < PAGES; p++) {
            m[p * (PAGE / 8)] = id << 32 | (u64)round << 16 | (u64)p;
        }
        call3(SYS_mprotect, m, PAGES * PAGE, PROT_READ);
        for (int k = 0; k < 2000; k++) {
            u64 p = next(&random) % PAGES;
            u64 v = m[p * (PAGE / 8)];
            if (v != (id << 32 | (u64)round << 16 | p)) {
                __atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
            }
            sum += v & 0xffff;
        }
        call2(SYS_munmap, m, PAGES * PAGE);
        __atomic_fetch_add(&counter, 1, __ATOMIC_SEQ_CST);
        lock(&mutex);
        table[next(&random) & 255] += 1;
        unlock(&mutex);
    }
    sums[id] = sum;
}

void program(long *stack)
{
    (void)stack;
    say("racewalk demo guest: 4 threads on s390x map, touch, protect, read and unmap memory\n");
    char *stacks = map(THREADS * STACK, PROT_READ | PROT_WRITE);
    for (u64 i = 0; i < THREADS; i++) {
        if (start(worker, (void *)i, stacks + (i + 1) * STACK, &done[i]) < 0) {
            say("a thread could not be started\n");
            finish(1);
        }
    }
    for (int i = 0; i < THREADS; i++) {
        join(&done[i]);
    }
    u64 entries = 0;
    for (int i = 0; i < 256; i++) {
        entries += table[i];
    }
    char line[200], *at = line;
    for (int i = 0; i < THREADS; i++) {
        at = text(at, "  thread ");
        at = digits(at, (u64)i);
        at = text(at, " read pages that add up to ");
        at = digits(at, sums[i]);
        *at++ = '\n';
        *at = 0;
        say(line);
        at = line;
    }
    at = text(at, "  rounds ");
    at = digits(at, counter);
    at = text(at, ", table entries ");
    at = digits(at, entries);
    at = text(at, ", wrong values ");
    at = digits(at, wrong);
    *at++ = '\n';
    *at = 0;
    say(line);
    int good = counter == THREADS * ROUNDS && entries == counter && wrong == 0;
    say(good ? "  every value was right\n" : "  SOMETHING IS WRONG\n");
    finish(!good);
}
