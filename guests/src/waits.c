/* Threads that wait for one another over pipes, eventfd, epoll, poll, timers and futexes with timeouts. Says what went
   wrong; with an argument the sleeps are as many hours as they are hundredths of a second without. */
#include "free.h"

enum {
    SYS_read = 3, SYS_close = 6, SYS_pipe2 = 325, SYS_poll = 168, SYS_nanosleep = 162, SYS_clock_gettime = 260,
    SYS_fcntl = 55, SYS_ioctl = 54, SYS_writev = 146, SYS_epoll_create1 = 327, SYS_epoll_ctl = 250,
    SYS_epoll_wait = 251, SYS_eventfd2 = 323, SYS_timerfd_create = 319, SYS_timerfd_settime = 320,
    SYS_setitimer = 104, SYS_rt_sigaction = 174,
};
enum { EINTR = 4, EAGAIN = 11, EINVAL = 22, EPIPE = 32, ETIMEDOUT = 110 };
enum { POLLIN = 1, POLLOUT = 4, POLLERR = 8, POLLHUP = 16 };
enum { NONBLOCK = 0x800, STACK = 64 << 10, ITEMS = 400 };

struct time { long seconds, nanoseconds; };
struct event { u32 events; u64 data; };
struct pollfd { int fd; short events, revents; };

static u64 unit_ns = 10000000;
static u64 wrong, items, sum, rings, alarms;
static int data[2], there[2], ping, pong;
static u32 done[4];
static char big[70000];

static void check(int good, const char *what)
{
    if (!good) {
        say(what);
        say("\n");
        wrong++;
    }
}

static u64 now(void)
{
    struct time t;
    call2(SYS_clock_gettime, 1, &t);
    return (u64)t.seconds * 1000000000 + (u64)t.nanoseconds;
}

static struct time units(u64 n)
{
    struct time t = { (long)(n * unit_ns / 1000000000), (long)(n * unit_ns % 1000000000) };
    return t;
}

static void producer(void *arg)
{
    (void)arg;
    u64 block[40];
    for (u64 i = 0; i < ITEMS;) {
        u64 n = i % 37 + 1;
        n = i + n > ITEMS ? ITEMS - i : n;
        for (u64 k = 0; k < n; k++) {
            block[k] = i + k;
        }
        check(call3(SYS_write, data[1], block, n * 8) == (long)(n * 8), "a block is written whole");
        i += n;
    }
    call1(SYS_close, data[1]);
}

static void consumer(void *arg)
{
    (void)arg;
    u64 block[25];
    long n;
    while ((n = call3(SYS_read, data[0], block, sizeof block)) > 0) {
        for (long k = 0; k < n / 8; k++) {
            check(block[k] == items, "items come in order");
            items++;
            sum += block[k];
        }
    }
    check(n == 0, "the end of the pipe");
}

static void echo(void *arg)
{
    (void)arg;
    u64 v;
    for (int i = 0; i < 50; i++) {
        check(call3(SYS_read, ping, &v, 8) == 8 && v == 1, "ping");
        rings++;
        call3(SYS_write, pong, &v, 8);
    }
}

static void late(void *arg)
{
    (void)arg;
    struct time t = units(2);
    call2(SYS_nanosleep, &t, 0);
    call3(SYS_write, there[1], "x", 1);
}

static void on_alarm(int signal)
{
    (void)signal;
    alarms++;
}

static void pipes(void)
{
    int p[2], n;
    check(call2(SYS_pipe2, p, NONBLOCK) == 0, "pipe2");
    check(call2(SYS_pipe2, p, 1) == -EINVAL, "no such flag");
    check(call3(SYS_read, p[0], big, 1) == -EAGAIN, "empty");
    check(call3(SYS_fcntl, p[0], 1032, 0) == 65536, "F_GETPIPE_SZ");
    check(call3(SYS_write, p[1], big, 70000) == 65536, "as much as it holds");
    check(call3(SYS_write, p[1], big, 1) == -EAGAIN, "full");
    struct pollfd f[2] = { { p[0], POLLIN, 0 }, { p[1], POLLOUT, 0 } };
    check(call3(SYS_poll, f, 2, 0) == 1 && f[0].revents == POLLIN && f[1].revents == 0, "poll of a full pipe");
    check(call3(SYS_ioctl, p[0], 0x541b, &n) == 0 && n == 65536, "FIONREAD");
    check(call3(SYS_read, p[0], big, 4096) == 4096, "read");
    check(call3(SYS_write, p[1], big, 4096) == 4096, "room for one block");
    check(call3(SYS_read, p[0], big, 4096) == 4096, "read again");
    long v[4] = { (long)"abc", 3, (long)"defg", 4 };
    check(call3(SYS_writev, p[1], v, 2) == 7, "writev");
    check(call3(SYS_fcntl, p[0], 1031, 5000) < 0, "F_SETPIPE_SZ of a pipe that holds more");
    while (call3(SYS_read, p[0], big, 65536) > 0) {
    }
    check(call3(SYS_fcntl, p[0], 1031, 5000) == 8192, "F_SETPIPE_SZ");

    long e = call1(SYS_epoll_create1, 0);
    struct event ev = { 0x80000001, 77 }, got[4];
    check(call6(SYS_epoll_ctl, e, 1, p[0], (long)&ev, 0, 0) == 0, "epoll_ctl");
    check(call6(SYS_epoll_ctl, e, 1, p[0], (long)&ev, 0, 0) == -17, "epoll_ctl again");
    check(call6(SYS_epoll_wait, e, (long)got, 4, 0, 0, 0) == 0, "nothing yet");
    call3(SYS_write, p[1], "x", 1);
    check(call6(SYS_epoll_wait, e, (long)got, 4, 0, 0, 0) == 1 && got[0].data == 77, "an edge");
    check(call6(SYS_epoll_wait, e, (long)got, 4, 0, 0, 0) == 0, "the edge once");
    call3(SYS_write, p[1], "x", 1);
    check(call6(SYS_epoll_wait, e, (long)got, 4, 0, 0, 0) == 1, "another edge");
    call1(SYS_close, p[1]);
    check(call6(SYS_epoll_wait, e, (long)got, 4, 0, 0, 0) == 1 && got[0].events == (POLLIN | POLLHUP), "the writer went");
    call1(SYS_close, p[0]);
    call1(SYS_close, e);

    call2(SYS_pipe2, p, 0);
    call1(SYS_close, p[0]);
    long ignore[4] = { 1, 0, 0, 0 };
    call6(SYS_rt_sigaction, 13, (long)ignore, 0, 8, 0, 0);
    check(call3(SYS_write, p[1], "x", 1) == -EPIPE, "nobody reads");
    f[0].fd = p[1];
    f[0].events = POLLOUT;
    check(call3(SYS_poll, f, 1, 0) == 1 && f[0].revents == (POLLOUT | POLLERR), "poll says that nobody reads");
    call1(SYS_close, p[1]);
}

static void times(void)
{
    u64 t0 = now();
    struct time t = units(3);
    check(call2(SYS_nanosleep, &t, 0) == 0 && now() - t0 >= 3 * unit_ns, "nanosleep");

    u32 word = 5;
    t = units(2);
    t0 = now();
    check(call6(SYS_futex, (long)&word, 128, 5, (long)&t, 0, 0) == -ETIMEDOUT, "a futex with a timeout");
    check(now() - t0 >= 2 * unit_ns, "its time");

    struct pollfd f = { there[0], POLLIN, 0 };
    t0 = now();
    check(call3(SYS_poll, &f, 1, 20) == 0 && now() - t0 >= 20000000, "poll with a timeout");
    char *stack = map(STACK, PROT_READ | PROT_WRITE);
    start(late, 0, stack + STACK, &done[3]);
    t0 = now();
    check(call3(SYS_poll, &f, 1, -1) == 1 && f.revents == POLLIN && now() - t0 >= unit_ns, "poll until a write");
    join(&done[3]);

    long fd = call2(SYS_timerfd_create, 1, 0), e = call1(SYS_epoll_create1, 0);
    struct time every[2] = { units(1), units(2) };
    struct event ev = { POLLIN, 5 }, got;
    t0 = now();
    check(call6(SYS_timerfd_settime, fd, 0, (long)every, 0, 0, 0) == 0, "timerfd_settime");
    call6(SYS_epoll_ctl, e, 1, fd, (long)&ev, 0, 0);
    u64 n, expiries = 0;
    while (expiries < 4) {
        check(call6(SYS_epoll_wait, e, (long)&got, 1, -1, 0, 0) == 1 && got.data == 5, "epoll_wait for a timer");
        check(call3(SYS_read, fd, &n, 8) == 8, "read of a timer");
        expiries += n;
    }
    check(now() - t0 >= 5 * unit_ns - unit_ns / 100, "the time of a timer");

    long action[4] = { (long)on_alarm, 0, 0, 0 };
    call6(SYS_rt_sigaction, 14, (long)action, 0, 8, 0, 0);
    t = units(2);
    long timer[4] = { 0, 0, t.seconds, t.nanoseconds / 1000 };
    t0 = now();
    call3(SYS_setitimer, 0, timer, 0);
    t = units(400);
    struct time left;
    check(call2(SYS_nanosleep, &t, &left) == -EINTR && alarms == 1, "an alarm");
    u64 slept = now() - t0;
    u64 rest = (u64)left.seconds * 1000000000 + (u64)left.nanoseconds;
    check(slept >= 2 * unit_ns && slept + rest >= 400 * unit_ns, "the rest of a sleep");
}

void program(long *stack)
{
    if (stack[0] > 1) {
        unit_ns = 3600000000000;
    }
    char *stacks = map(3 * STACK, PROT_READ | PROT_WRITE);
    call2(SYS_pipe2, data, 0);
    call2(SYS_pipe2, there, 0);
    call3(SYS_fcntl, data[0], 1031, 4096);
    ping = (int)call2(SYS_eventfd2, 0, 0);
    pong = (int)call2(SYS_eventfd2, 0, 0);
    start(producer, 0, stacks + STACK, &done[0]);
    start(consumer, 0, stacks + 2 * STACK, &done[1]);
    start(echo, 0, stacks + 3 * STACK, &done[2]);
    pipes();
    for (int i = 0; i < 50; i++) {
        u64 v = 1;
        call3(SYS_write, ping, &v, 8);
        check(call3(SYS_read, pong, &v, 8) == 8 && v == 1, "pong");
    }
    times();
    for (int i = 0; i < 3; i++) {
        join(&done[i]);
    }
    check(items == ITEMS && sum == (u64)ITEMS * (ITEMS - 1) / 2, "every item came");
    check(rings == 50, "every ring came");
    say(wrong ? "something is wrong\n" : "every wait ended as it should\n");
    finish(wrong != 0);
}
