// Signals: handlers of both kinds, registers across them, masks, alternate stacks, restarting, timers, threads.
#define _GNU_SOURCE
#include <errno.h>
#include <fenv.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static sigjmp_buf out;
static volatile sig_atomic_t count, depth, deepest;
static volatile uintptr_t fault_base;

static void on(int sig, void (*f)(int, siginfo_t *, void *), int flags) {
    struct sigaction a = {.sa_flags = SA_SIGINFO | flags};
    a.sa_sigaction = f;
    sigemptyset(&a.sa_mask);
    if (sigaction(sig, &a, NULL) != 0) perror("sigaction");
}

static void say(int sig, siginfo_t *i, void *ctx) {
    ucontext_t *u = ctx;
    uintptr_t pc = u->uc_mcontext.psw.addr, at = (uintptr_t)i->si_addr;
    printf("  %s code %d signo %d", strsignal(sig), i->si_code, i->si_signo);
    if (sig == SIGSEGV || sig == SIGBUS)
        printf(" addr %+ld", (long)(at - fault_base));
    else
        printf(" addr is pc-%ld", (long)(pc - at));
    printf(" cc/mask %x\n", (unsigned)(u->uc_mcontext.psw.mask >> 32 & 0x0705ffff) & ~0x3f00);
    siglongjmp(out, 1);
}

#define CATCH(what, ...) do { printf("%s\n", what); if (sigsetjmp(out, 1) == 0) { __VA_ARGS__; printf("  nothing\n"); } } while (0)

static void faults(void) {
    int all[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
    for (int i = 0; i < 5; i++) on(all[i], say, 0);
    char *p = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(p + 4096, 4096);
    fault_base = (uintptr_t)p;
    CATCH("write to a read-only page", *(volatile char *)(p + 17) = 1);
    CATCH("read of nothing", (void)*(volatile char *)(p + 4096 + 300));
    CATCH("null", fault_base = 0; (void)*(volatile char *)(fault_base + 8));
    FILE *f = tmpfile();
    fputs("short", f);
    fflush(f);
    char *m = mmap(NULL, 8192, PROT_READ, MAP_SHARED, fileno(f), 0);
    fault_base = (uintptr_t)m;
    CATCH("beyond the end of a file", (void)*(volatile char *)(m + 4096 + 5));
    CATCH("illegal instruction", __asm__ volatile(".word 0"));
    CATCH("privileged instruction", __asm__ volatile("ssm 0(%r15)"));
    CATCH("divide by zero", volatile long a = 9, z = 0; volatile long r = a / z; (void)r);
    CATCH("compare and trap", __asm__ volatile("cgrt %%r15,%%r15,8" ::: "memory"));
    for (int e = 0; e < 3; e++) {
        int which[] = {FE_INVALID, FE_DIVBYZERO, FE_OVERFLOW};
        feenableexcept(which[e]);
        static const char *names[] = {"invalid", "division", "overflow"};
        CATCH(names[e], volatile double a = e == 2 ? 1e300 : e, b = e == 2 ? 1e-300 : 0; volatile double r = a / b; (void)r);
        fedisableexcept(FE_ALL_EXCEPT);
        feclearexcept(FE_ALL_EXCEPT);
    }
}

static void skip(int sig, siginfo_t *i, void *ctx) {
    (void)sig, (void)i, (void)ctx;
    count++;
}

// Everything a handler spoils comes back, and what it changes in the frame takes effect.
static void change(int sig, siginfo_t *i, void *ctx) {
    (void)sig, (void)i;
    ucontext_t *u = ctx;
    double d;
    memcpy(&d, &u->uc_mcontext.fpregs.fprs[4], 8);
    printf("  r8 %lx f4 %g rounding %x a2 %x\n", u->uc_mcontext.gregs[8], d, u->uc_mcontext.fpregs.fpc & 7,
           u->uc_mcontext.aregs[2]);
    u->uc_mcontext.gregs[9] = 77;
    d = 2.5;
    memcpy(&u->uc_mcontext.fpregs.fprs[6], &d, 8);
    fesetround(FE_TOWARDZERO);
    __asm__ volatile("lghi %%r10,1\n lzdr %%f8\n lzdr %%f9" ::: "r10", "f8", "f9");
}

static void registers(void) {
    printf("registers\n");
    on(SIGILL, change, 0);
    fesetround(FE_UPWARD);
    double f6, f8 = 8.5;
    uint64_t r9, r10 = 10, cc;
    __asm__ volatile("lghi %%r8,0x123\n sar %%a2,%%r8\n ldr %%f8,%[x8]\n lgr %%r10,%[x10]\n lghi %%r9,5\n cdfbr %%f4,%%r9\n"
                     " tmll %%r9,5\n .word 0\n ipm %[cc]\n ldr %[f6],%%f6\n ldr %[x8],%%f8\n lgr %[r9],%%r9\n lgr %[x10],%%r10\n"
                     : [f6] "=&f"(f6), [r9] "=&d"(r9), [cc] "=&d"(cc), [x8] "+f"(f8), [x10] "+d"(r10)
                     :: "r8", "r9", "r10", "f4", "f6", "f8", "f9", "cc");
    printf("  r9 %ld r10 %ld f6 %g f8 %g cc %lx rounding %d\n", (long)r9, (long)r10, f6, f8, cc >> 28 & 3,
           fegetround() == FE_UPWARD);
    fesetround(FE_TONEAREST);
}

// A handler without SA_SIGINFO gets a pointer to a sigcontext.
static void plain(int sig, struct sigcontext *c) {
    (void)sig;
    uint64_t *r = (uint64_t *)c->sregs;
    printf("  old mask %lx, r8 %lx\n", c->oldmask[0], (unsigned long)r[2 + 8]);
    r[2 + 9] = 99;
}

static void plain_handler(void) {
    printf("plain handler\n");
    struct sigaction a = {.sa_handler = (void (*)(int))(void *)plain};
    sigaction(SIGILL, &a, NULL);
    uint64_t r9;
    __asm__ volatile("lghi %%r8,0x456\n lghi %%r9,1\n .word 0\n lgr %0,%%r9" : "=d"(r9) :: "r8", "r9", "cc");
    printf("  r9 %ld\n", (long)r9);
}

static void nest(int sig, siginfo_t *i, void *ctx) {
    (void)i, (void)ctx;
    if (++depth > deepest) deepest = depth;
    if (++count < 4) raise(sig);
    depth--;
}

static void masks(void) {
    printf("masks\n");
    count = 0;
    on(SIGUSR1, nest, SA_NODEFER);
    raise(SIGUSR1);
    printf("  SA_NODEFER nests %d deep\n", deepest);
    deepest = count = 0;
    on(SIGUSR1, nest, 0);
    raise(SIGUSR1);
    printf("  without it %d\n", deepest);
    on(SIGUSR2, skip, SA_RESETHAND);
    count = 0;
    raise(SIGUSR2);
    struct sigaction now;
    sigaction(SIGUSR2, NULL, &now);
    printf("  SA_RESETHAND %d default %d\n", count, now.sa_handler == SIG_DFL);
    on(SIGUSR2, skip, 0);
    sigset_t set, old, pending;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGRTMIN);
    on(SIGRTMIN, skip, 0);
    sigprocmask(SIG_BLOCK, &set, &old);
    count = 0;
    for (int i = 0; i < 3; i++) raise(SIGUSR2), raise(SIGRTMIN);
    sigpending(&pending);
    printf("  blocked %d pending %d %d %d\n", count, sigismember(&pending, SIGUSR2), sigismember(&pending, SIGRTMIN),
           sigismember(&pending, SIGUSR1));
    sigprocmask(SIG_SETMASK, &old, NULL);
    printf("  then %d\n", count);
    sigprocmask(SIG_BLOCK, &set, &old);
    union sigval v = {.sival_int = 4711};
    sigqueue(getpid(), SIGRTMIN, v);
    siginfo_t info;
    struct timespec none = {0, 1000000};
    printf("  sigwait %d value %d code %d own %d\n", sigtimedwait(&set, &info, &none) == SIGRTMIN, info.si_value.sival_int,
           info.si_code, info.si_pid == getpid());
    int r = sigtimedwait(&set, &info, &none);
    printf("  empty %d %s\n", r, strerror(errno));
    kill(getpid(), SIGUSR2);
    count = 0;
    r = sigsuspend(&old);
    printf("  sigsuspend %d %s count %d\n", r, strerror(errno), count);
    sigprocmask(SIG_SETMASK, NULL, &pending);
    printf("  still blocked %d\n", sigismember(&pending, SIGUSR2));
    sigprocmask(SIG_SETMASK, &old, NULL);
}

static char stack[65536];
static void where(int sig, siginfo_t *i, void *ctx) {
    (void)i;
    char here;
    ucontext_t *u = ctx;
    stack_t now;
    sigaltstack(NULL, &now);
    printf("  on it %d flags %d uc_stack %d %zu\n", &here > stack && &here < stack + sizeof stack, now.ss_flags,
           u->uc_stack.ss_sp == stack, u->uc_stack.ss_size);
    stack_t no = {.ss_flags = SS_DISABLE};
    int r = sigaltstack(&no, NULL);
    printf("  change %d %s\n", r, strerror(errno));
    if (sig == SIGSEGV) siglongjmp(out, 1);
}

static volatile int forever = 1;
static int overflow(int n) {
    volatile char big[4096];
    if (!forever) return n;
    big[0] = n;
    return overflow(n + 1) + big[0];
}

static void alternate(void) {
    printf("alternate stack\n");
    stack_t s = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&s, NULL);
    on(SIGUSR1, where, SA_ONSTACK);
    raise(SIGUSR1);
    on(SIGSEGV, where, SA_ONSTACK);
    if (sigsetjmp(out, 1) == 0) overflow(0);
    stack_t small = {.ss_sp = stack, .ss_size = 100};
    int r = sigaltstack(&small, NULL);
    printf("  small %d %s\n", r, strerror(errno));
}

static int fds[2];
static void feed(int sig, siginfo_t *i, void *ctx) {
    (void)sig, (void)i, (void)ctx;
    if (++count == 3 && write(fds[1], "x", 1) != 1) perror("write");
}

static void timers(void) {
    printf("timers\n");
    if (pipe(fds) != 0) perror("pipe");
    char c;
    struct itimerval every = {{0, 20000}, {0, 20000}}, off = {{0, 0}, {0, 0}}, left;
    on(SIGALRM, feed, SA_RESTART);
    count = 0;
    setitimer(ITIMER_REAL, &every, NULL);
    int n = read(fds[0], &c, 1);
    printf("  SA_RESTART: read %d after %d\n", n, count);
    on(SIGALRM, feed, 0);
    count = 10;
    n = read(fds[0], &c, 1);
    printf("  without: %d %s\n", n, strerror(errno));
    struct timespec second = {5, 0}, rest;
    n = nanosleep(&second, &rest);
    printf("  nanosleep %d %s rest %d\n", n, strerror(errno), (int)rest.tv_sec);
    n = pause();
    printf("  pause %d %s\n", n, strerror(errno));
    setitimer(ITIMER_REAL, &off, &left);
    printf("  was every %ld\n", (long)left.it_interval.tv_usec);
    alarm(100);
    printf("  alarm %u", alarm(0));
    printf(" %u\n", alarm(0));
    timer_t t;
    struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 1};
    ev.sigev_value.sival_int = 5;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    timer_create(CLOCK_MONOTONIC, &ev, &t);
    struct itimerspec its = {{0, 5000000}, {0, 5000000}};
    timer_settime(t, 0, &its, NULL);
    struct timespec some = {0, 60000000};
    nanosleep(&some, NULL);
    siginfo_t info;
    n = sigwaitinfo(&set, &info);
    printf("  timer %d code %d value %d overrun %d\n", n == SIGRTMIN + 1, info.si_code, info.si_value.sival_int,
           info.si_overrun >= 5 && info.si_overrun < 40);
    printf("  delete %d\n", timer_delete(t));
}

static pthread_barrier_t ready;
static volatile int taken_by;
static void taken(int sig, siginfo_t *i, void *ctx) {
    (void)sig, (void)i, (void)ctx;
    taken_by = gettid();
}

static void *waiter(void *p) {
    (void)p;
    sigset_t set;
    sigemptyset(&set);
    pthread_sigmask(SIG_SETMASK, &set, NULL);
    pthread_barrier_wait(&ready);
    while (!taken_by) {
        struct timespec t = {1, 0};
        nanosleep(&t, NULL);
    }
    return (void *)(long)(taken_by == gettid());
}

static void *spinner(void *p) {
    volatile int *stop = p;
    while (!*stop);
    return NULL;
}

static volatile int stop;
static void halt(int sig, siginfo_t *i, void *ctx) {
    (void)sig, (void)i, (void)ctx;
    stop = 1;
}

static void threads(void) {
    printf("threads\n");
    on(SIGUSR1, taken, 0);
    sigset_t set;
    sigfillset(&set);
    pthread_sigmask(SIG_SETMASK, &set, NULL);
    pthread_barrier_init(&ready, NULL, 2);
    pthread_t t;
    pthread_create(&t, NULL, waiter, NULL);
    pthread_barrier_wait(&ready);
    kill(getpid(), SIGUSR1);
    void *r;
    pthread_join(t, &r);
    printf("  the thread that does not block it took it: %ld\n", (long)r);
    on(SIGUSR2, halt, 0);
    sigemptyset(&set);
    pthread_sigmask(SIG_SETMASK, &set, NULL);
    pthread_create(&t, NULL, spinner, (void *)&stop);
    pthread_kill(t, SIGUSR2);
    pthread_join(t, NULL);
    printf("  a spinning thread was called out\n");
}

static void ignored(void) {
    printf("pipe nobody reads\n");
    int p[2];
    if (pipe(p) != 0) perror("pipe");
    close(p[0]);
    on(SIGPIPE, skip, 0);
    count = 0;
    int n = write(p[1], "x", 1);
    printf("  %d %s, %d\n", n, strerror(errno), count);
    signal(SIGPIPE, SIG_IGN);
    n = write(p[1], "x", 1);
    printf("  %d %s, %d\n", n, strerror(errno), count);
    signal(SIGCHLD, SIG_DFL);
    raise(SIGCHLD);
    raise(SIGWINCH);
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IONBF, 0);
    struct { const char *name; void (*f)(void); } parts[] = {
        {"faults", faults}, {"registers", registers}, {"plain", plain_handler}, {"masks", masks},
        {"altstack", alternate}, {"timers", timers}, {"threads", threads}, {"ignored", ignored},
    };
    for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++)
        if (argc < 2 || strcmp(argv[1], parts[i].name) == 0) parts[i].f();
    return 7;
}
