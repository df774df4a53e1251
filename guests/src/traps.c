/* Exceptions of instructions that complete first, EXECUTE of calls, PLO and CSST with several threads. */
#define _GNU_SOURCE
#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <ucontext.h>

static volatile int seen, code;
static volatile uint32_t dxc;
static volatile uintptr_t distance;
static volatile long cc;

static void on_fpe(int sig, siginfo_t *info, void *context)
{
    ucontext_t *u = context;
    seen = sig;
    code = info->si_code;
    distance = u->uc_mcontext.psw.addr - (uintptr_t)info->si_addr;
    cc = u->uc_mcontext.psw.mask >> 44 & 3;
    dxc = u->uc_mcontext.fpregs.fpc >> 8 & 255;
}

static void report(const char *what, uint64_t result)
{
    printf("%-22s signal %d code %d length %d cc %ld dxc %02x result %016llx\n", what, seen, code, (int)distance, cc,
           dxc, (unsigned long long)result);
    seen = code = 0;
    distance = 0;
    cc = 0;
    dxc = 0;
}

__attribute__((noinline)) static int add(int a, int b, unsigned long mask)
{
    asm volatile("spm %2\n\tar %0,%1" : "+d"(a) : "d"(b), "d"(mask) : "cc");
    return a;
}

__attribute__((noinline)) static double operate(double a, double b, uint32_t fpc)
{
    asm volatile("sfpc %2\n\tmdbr %0,%1\n\tsfpc %3" : "+f"(a) : "f"(b), "d"(fpc), "d"(0));
    return a;
}

__attribute__((noinline)) static double shorten(double a, uint32_t fpc)
{
    asm volatile("sfpc %1\n\tledbr %0,%0\n\tsfpc %2" : "+f"(a) : "d"(fpc), "d"(0));
    return a;
}

static uint64_t bits(double d)
{
    union { double d; uint64_t u; } u = { d };
    return u.u;
}

/* EXECUTE of BRASL and BRAS: how far behind EXECUTE the link is. */
__attribute__((noinline)) static long linked(void)
{
    long link, here;
    asm volatile("larl %1,0f\n\tj 2f\n"
                 "1:\tbrasl %0,3f\n"
                 "2:\texrl 0,1b\n"
                 "0:\tj 4f\n"
                 "3:\tbr %0\n"
                 "4:" : "=&a"(link), "=&a"(here));
    return link - here;
}

enum { THREADS = 4, ROUNDS = 20000 };
static struct { uint64_t value, log; } __attribute__((aligned(16))) both;
static uint64_t counter __attribute__((aligned(16))), last __attribute__((aligned(16)));

/* PLO double compare and swap (64-bit registers): both counters move together. */
static void plo(void)
{
    register uint64_t r0 asm("0") = 10;
    register uint64_t r1 asm("1") = (uintptr_t)&both;
    register uint64_t r2 asm("2"), r3 asm("3"), r4 asm("4"), r5 asm("5");
    int done;
    r2 = both.value;
    r4 = both.log;
    do {
        r3 = r2 + 1;
        r5 = r4 + 3;
        asm volatile("plo %1,%6,%3,%7\n\tipm %0\n\tsrl %0,28"
                     : "=d"(done), "+d"(r2), "+d"(r3), "+d"(r4), "+d"(r5), "+d"(r0), "+Q"(both.value), "+Q"(both.log)
                     : "d"(r1) : "cc");
    } while (done);
}

/* CSST: the counter moves; the value it had is stored. */
static void csst(void)
{
    struct { uint64_t new, pad, store, pad2; } __attribute__((aligned(16))) list;
    register uint64_t r0 asm("0") = 0x301;
    register uint64_t r1 asm("1") = (uintptr_t)&list;
    register uint64_t r4 asm("4") = counter;
    int done;
    do {
        list.new = r4 + 1;
        list.store = r4;
        asm volatile("csst %2,%3,%1\n\tipm %0\n\tsrl %0,28"
                     : "=d"(done), "+d"(r4), "+Q"(counter), "+Q"(last) : "d"(r0), "d"(r1), "m"(list) : "cc");
    } while (done);
}

static void *work(void *p)
{
    for (int i = 0; i < ROUNDS; i++) {
        plo();
        csst();
    }
    return p;
}

int main(void)
{
    struct sigaction sa = { .sa_sigaction = on_fpe, .sa_flags = SA_SIGINFO };
    sigaction(SIGFPE, &sa, NULL);

    unsigned sum = 0;
    for (int i = 0; i < 300; i++)
        sum += add(0x7fffffff, i, 0);
    report("masked", sum);
    int r = add(0x7fffffff, 1, 0x08000000);
    report("fixed-point overflow", (unsigned)r);
    r = add(0x7ffffff0, 1, 0x08000000);
    report("no overflow", (unsigned)r);

    double product = 0;
    for (int i = 0; i < 300; i++)
        product += operate(i, 0.1, 0);
    report("all masked", bits(product));
    report("overflow", bits(operate(0x1p1000, 0x1.8p1000, 0x20000000)));
    report("underflow", bits(operate(0x1p-1000, 0x1.8p-1000, 0x10000000)));
    report("inexact", bits(operate(3, 0.1, 0x08000000)));
    report("exact", bits(operate(3, 0.5, 0x38000000)));
    report("invalid", bits(operate(0, __builtin_inf(), 0x80000000)));
    report("rounded overflow", bits(shorten(0x1.8000000001p900, 0x20000000)));
    feenableexcept(FE_INEXACT);
    volatile double third = 1.0, three = 3.0;
    third /= three;
    fedisableexcept(FE_INEXACT);
    report("feenableexcept", bits(third));

    printf("link %ld\n", linked());

    pthread_t t[THREADS];
    for (int i = 0; i < THREADS; i++)
        pthread_create(&t[i], NULL, work, NULL);
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    printf("plo %llu %llu csst %llu %d\n", (unsigned long long)both.value, (unsigned long long)both.log,
           (unsigned long long)counter, last < counter);
    return 0;
}
