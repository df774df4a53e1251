// Reads and writes whose memory ends too early: nothing is lost. Status flags of open files. In the directory that
// the first argument names.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define SHOW(call) do { \
    errno = 0; \
    long r_ = (long)(call); \
    printf("%s = %ld%s%s\n", #call, r_, r_ < 0 ? " " : "", r_ < 0 ? strerrorname_np(errno) : ""); \
} while (0)
#define POSITION(fd) printf("position %ld\n", (long)lseek(fd, 0, SEEK_CUR))

// The byte behind the memory, in the middle of 2 * SOME bytes.
enum { SOME = 1 << 18 };
static char *end;
static char b[2 * SOME];

static void files(void) {
    volatile size_t huge = -1;
    int fd = open("f", O_RDWR | O_CREAT | O_TRUNC, 0600);
    SHOW(write(fd, "0123456789", 10));
    lseek(fd, 0, SEEK_SET);
    SHOW(read(fd, end, 10));
    POSITION(fd);
    SHOW(read(fd, end - 6, 10));
    POSITION(fd);
    printf("%.6s\n", end - 6);
    SHOW(read(fd, b, 10));
    SHOW(read(fd, end, 10));
    lseek(fd, 0, SEEK_SET);
    memset(end - 6, 'x', 6);
    SHOW(write(fd, end - 6, 10));
    POSITION(fd);
    SHOW(write(fd, end, 10));
    SHOW(pread(fd, end - 6, 10, 0));
    SHOW(pread(fd, end, 10, 0));
    SHOW(pread(fd, end, 10, 10));
    SHOW(pwrite(fd, end - 3, 10, 8));
    SHOW(pwrite(fd, end, 10, 8));
    struct iovec v[2] = {{b, 4}, {end, 4}}, w[2] = {{end - 4, 8}, {b, 4}};
    lseek(fd, 0, SEEK_SET);
    SHOW(readv(fd, v, 2));
    SHOW(writev(fd, v, 2));
    POSITION(fd);
    SHOW(preadv(fd, w, 2, 0));
    SHOW(pwritev(fd, w, 2, 0));
    SHOW(read(fd, b, huge));
    SHOW(pwrite(fd, b, huge, 0));
    // Beyond one copy.
    SHOW(ftruncate(fd, 2 * SOME));
    lseek(fd, 0, SEEK_SET);
    SHOW(read(fd, end - 200000, 2 * SOME) == 200000);
    POSITION(fd);
    SHOW(write(fd, end - 100000, 2 * SOME) == 100000);
    POSITION(fd);
    close(fd);
    fd = open("/dev/null", O_RDONLY);
    SHOW(read(fd, end, 1));
    close(fd);
    fd = open("/dev/zero", O_RDONLY);
    SHOW(read(fd, end, 1));
    close(fd);
    fd = open("f", O_WRONLY);
    SHOW(read(fd, end, 1));
    close(fd);
}

static void pipes(void) {
    int p[2];
    SHOW(pipe2(p, O_NONBLOCK));
    SHOW(read(p[0], end, 10));
    SHOW(write(p[1], "0123456789", 10));
    SHOW(read(p[0], end, 10));
    SHOW(read(p[0], b, 3));
    printf("%.3s\n", b);
    SHOW(read(p[0], end - 4, 7));
    SHOW(read(p[0], end - 8, 20));
    printf("%.7s\n", end - 8);
    SHOW(write(p[1], end - 6, 10));
    SHOW(read(p[0], b, 10));
    SHOW(write(p[1], end - 8192, 10000));
    SHOW(read(p[0], end - 5000, 10000));
    SHOW(read(p[0], b, 10000));
    close(p[1]);
    SHOW(read(p[0], end, 10));
    // Waits for nothing once there is something.
    struct iovec w[2] = {{b, 4}, {b + 4, 4}};
    SHOW(pipe(p));
    SHOW(write(p[1], "0123", 4));
    SHOW(readv(p[0], w, 2));
    uint64_t v = 5;
    int e = eventfd(5, EFD_NONBLOCK);
    SHOW(write(e, end - 4, 8));
    SHOW(read(e, &v, 8));
    printf("eventfd %d\n", (int)v);
    int ep = epoll_create1(0);
    struct epoll_event ev = {.events = EPOLLIN | EPOLLET, .data.u64 = 7}, got[2] = {{0}};
    SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, e, &ev));
    SHOW(write(e, &v, 8));
    SHOW(epoll_wait(ep, (void *)end, 2, 0));
    SHOW(epoll_wait(ep, got, 2, 0));
    SHOW(epoll_wait(ep, got, 2, 0));
}

// What cannot be written was not read.
static void copies(void) {
    int p[2], fd = open("f", O_RDWR), to = open("f", O_RDONLY);
    off_t at = 100;
    SHOW(pipe2(p, O_NONBLOCK));
    SHOW(fcntl(p[1], F_SETPIPE_SZ, 4096));
    SHOW(sendfile(p[1], fd, NULL, 10000));
    POSITION(fd);
    SHOW(sendfile(p[1], fd, NULL, 10000));
    POSITION(fd);
    SHOW(sendfile(p[1], fd, &at, 10000));
    printf("at %ld\n", (long)at);
    SHOW(read(p[0], b, 10000));
    SHOW(sendfile(p[1], fd, &at, 10));
    printf("at %ld\n", (long)at);
    SHOW(copy_file_range(fd, NULL, to, NULL, 10, 0));
    POSITION(fd);
    close(p[0]), close(p[1]), close(fd), close(to);
}

static long entries(int fd, char *to, long n, int *names) {
    long r = syscall(SYS_getdents64, fd, to, n);
    for (long at = 0; at < r; at += ((struct dirent64 *)(to + at))->d_reclen) ++*names;
    return r;
}

static void directories(void) {
    int fd = open(".", O_RDONLY | O_DIRECTORY), names = 0;
    SHOW(entries(fd, end, 1000, &names));
    SHOW(entries(fd, end - 8, 1000, &names));
    SHOW(entries(fd, b, 8, &names));
    // Each fits, not all.
    while (entries(fd, end - 40, 1000, &names) > 0) {}
    printf("names %d\n", names);
    SHOW(entries(fd, end, 1000, &names));
    close(fd);
}

static void show(const char *name) {
    char all[200];
    int fd = open(name, O_RDONLY);
    long n = read(fd, all, sizeof all);
    printf("%s: %.*s\n", name, (int)n, all);
    close(fd);
}

static void flags(void) {
    int fd = open("a", O_RDWR | O_CREAT | O_TRUNC, 0600);
    SHOW(write(fd, "abcdef", 6));
    SHOW(fcntl(fd, F_SETFL, O_APPEND));
    int d = dup(fd), other = open("a", O_RDWR);
    SHOW(fcntl(d, F_GETFL) & (O_APPEND | O_NONBLOCK));
    SHOW(fcntl(other, F_GETFL) & O_APPEND);
    lseek(fd, 0, SEEK_SET);
    SHOW(write(d, "ZZ", 2));
    POSITION(fd);
    SHOW(fcntl(fd, F_SETFL, O_NONBLOCK));
    SHOW(fcntl(d, F_GETFL) & (O_APPEND | O_NONBLOCK));
    lseek(fd, 0, SEEK_SET);
    SHOW(write(d, "Y", 1));
    POSITION(fd);
    show("a");
    close(other);
    other = open("a", O_RDWR | O_APPEND);
    SHOW(fcntl(other, F_GETFL) & O_APPEND);
    char *m = mmap(NULL, 4096, PROT_READ, MAP_SHARED, other, 0);
    printf("mapped %.8s\n", m);
    SHOW(write(other, "1", 1));
    SHOW(pwrite(other, "2", 1, 0));
    printf("mapped %.10s\n", m);
    off_t zero = 0;
    SHOW(copy_file_range(fd, &zero, other, NULL, 3, 0));
    SHOW(sendfile(other, fd, &zero, 3));
    SHOW(fcntl(other, F_SETFL, 0));
    SHOW(fcntl(other, F_GETFL) & O_APPEND);
    SHOW(pwrite(other, "3", 1, 0));
    lseek(other, 1, SEEK_SET);
    SHOW(write(other, "4", 1));
    SHOW(fcntl(other, F_SETFL, O_NOATIME));
    SHOW((fcntl(other, F_GETFL) & O_NOATIME) != 0);
    show("a");
    munmap(m, 4096);
    close(fd), close(d), close(other);
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IONBF, 0);
    if (argc < 2 || chdir(argv[1]) != 0) return 2;
    char *m = mmap(NULL, 2 * SOME, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m == MAP_FAILED || mprotect(m + SOME, SOME, PROT_NONE) != 0) return 2;
    end = m + SOME;
    if (argc > 2) {
        int fd = open("f", O_RDWR | O_CREAT, 0600);
        SHOW(fcntl(fd, F_SETFL, O_NONBLOCK | O_DIRECT));
        SHOW(fcntl(fd, F_SETFL, O_NONBLOCK | O_ASYNC));
        SHOW(fcntl(fd, F_GETFL) & (O_NONBLOCK | O_DIRECT | O_ASYNC));
        return 0;
    }
    files();
    pipes();
    copies();
    directories();
    flags();
    return 0;
}
