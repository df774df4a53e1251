/* The little that a freestanding s390x Linux guest needs: system calls, threads, a lock, printing. */
#ifndef FREE_H
#define FREE_H
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;

enum {
    SYS_exit = 1, SYS_write = 4, SYS_getpid = 20, SYS_mmap = 90, SYS_munmap = 91, SYS_clone = 120,
    SYS_mprotect = 125, SYS_sched_yield = 158, SYS_futex = 238, SYS_exit_group = 248,
};

static inline long call6(long nr, long a, long b, long c, long d, long e, long f)
{
    register long r1 asm("1") = nr;
    register long r2 asm("2") = a;
    register long r3 asm("3") = b;
    register long r4 asm("4") = c;
    register long r5 asm("5") = d;
    register long r6 asm("6") = e;
    register long r7 asm("7") = f;
    asm volatile("svc 0" : "+d"(r2) : "d"(r1), "d"(r3), "d"(r4), "d"(r5), "d"(r6), "d"(r7) : "memory", "cc");
    return r2;
}
#define call0(n) call6(n, 0, 0, 0, 0, 0, 0)
#define call1(n, a) call6(n, (long)(a), 0, 0, 0, 0, 0)
#define call2(n, a, b) call6(n, (long)(a), (long)(b), 0, 0, 0, 0)
#define call3(n, a, b, c) call6(n, (long)(a), (long)(b), (long)(c), 0, 0, 0)

enum { PROT_NONE = 0, PROT_READ = 1, PROT_WRITE = 2, PROT_EXEC = 4 };

static inline void *map(size_t bytes, int prot)
{
    /* mmap takes a pointer to its six arguments. */
    long a[6] = { 0, (long)bytes, prot, 0x22, -1, 0 };
    long r = call1(SYS_mmap, a);
    return r < 0 && r > -4096 ? NULL : (void *)r;
}

static inline size_t length(const char *s)
{
    size_t n = 0;
    while (s[n]) {
        n++;
    }
    return n;
}

static inline void say(const char *s) { call3(SYS_write, 1, s, length(s)); }

/* Appends the decimal digits of v to a line; returns the new end. */
static inline char *digits(char *at, u64 v)
{
    char tmp[20];
    int n = 0;
    do {
        tmp[n++] = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    while (n) {
        *at++ = tmp[--n];
    }
    return at;
}

static inline char *text(char *at, const char *s)
{
    while (*s) {
        *at++ = *s++;
    }
    return at;
}

static inline void finish(int status)
{
    for (;;) {
        call1(SYS_exit_group, status);
    }
}

/* A mutex over a futex: 0 free, 1 held, 2 held and waited for. */
static inline void lock(u32 *m)
{
    u32 c = 0;
    if (__atomic_compare_exchange_n(m, &c, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
        return;
    }
    while (__atomic_exchange_n(m, 2, __ATOMIC_ACQUIRE) != 0) {
        call6(SYS_futex, (long)m, 128, 2, 0, 0, 0);
    }
}

static inline void unlock(u32 *m)
{
    if (__atomic_exchange_n(m, 0, __ATOMIC_RELEASE) == 2) {
        call6(SYS_futex, (long)m, 129, 1, 0, 0, 0);
    }
}

/* Starts fn(arg) on a new thread; *done becomes 0 and is woken when it ends. Returns its id or a negative error. */
static inline long start(void (*fn)(void *), void *arg, void *stack_top, u32 *done)
{
    *done = 1;
    long *frame = (long *)((u64)stack_top - 160 - 2 * sizeof(long));
    frame[20] = (long)fn;
    frame[21] = (long)arg;
    register long r1 asm("1") = SYS_clone;
    register long r2 asm("2") = (long)frame;
    register long r3 asm("3") = 0x250f00; /* VM FS FILES SIGHAND THREAD SYSVSEM CHILD_CLEARTID */
    register long r4 asm("4") = 0;
    register long r5 asm("5") = (long)done;
    asm volatile("svc 0\n"
                 "ltgr %%r2,%%r2\n"
                 "jne 1f\n"
                 "lg %%r1,160(%%r15)\n"
                 "lg %%r2,168(%%r15)\n"
                 "basr %%r14,%%r1\n"
                 "lghi %%r1,1\n"
                 "lghi %%r2,0\n"
                 "svc 0\n"
                 "1:\n"
                 : "+d"(r1), "+d"(r2), "+d"(r3), "+d"(r4), "+d"(r5)
                 :
                 : "0", "6", "7", "14", "memory", "cc");
    return r2;
}

static inline void join(u32 *done)
{
    u32 v;
    while ((v = __atomic_load_n(done, __ATOMIC_ACQUIRE)) != 0) {
        call6(SYS_futex, (long)done, 0, v, 0, 0, 0);
    }
}

/* gcc may call these even in freestanding code. */
void *memset(void *d, int c, size_t n)
{
    u8 *p = d;
    while (n--) {
        *p++ = (u8)c;
        asm volatile("" : "+a"(p));
    }
    return d;
}

void *memcpy(void *d, const void *s, size_t n)
{
    u8 *p = d;
    const u8 *q = s;
    while (n--) {
        *p++ = *q++;
        asm volatile("" : "+a"(p));
    }
    return d;
}

/* `stack` points to argc, with argv behind it. */
void program(long *stack);

/* The kernel enters with r15 at argc; a frame for calls goes below it. */
asm(".globl _start\n"
    "_start:\n"
    "lgr %r2,%r15\n"
    "aghi %r15,-160\n"
    "xc 0(8,%r15),0(%r15)\n"
    "brasl %r14,program\n"
    "j .+2-2\n");
#endif
