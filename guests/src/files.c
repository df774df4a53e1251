// Files and directories, in a directory that the first argument names and that is empty.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define SHOW(call) do { errno = 0; long r_ = (long)(call); printf("%s = %ld%s%s\n", #call, r_, r_ < 0 ? " " : "", r_ < 0 ? strerrorname_np(errno) : ""); } while (0)

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void list(const char *dir) {
    DIR *d = opendir(dir);
    if (!d) { printf("opendir %s: %s\n", dir, strerrorname_np(errno)); return; }
    char *names[64];
    int n = 0;
    for (struct dirent *e; (e = readdir(d)) && n < 64;) {
        char line[300];
        snprintf(line, sizeof line, "%s/%d", e->d_name, e->d_type);
        names[n++] = strdup(line);
    }
    closedir(d);
    qsort(names, n, sizeof *names, by_name);
    printf("%s:", dir);
    for (int i = 0; i < n; i++) printf(" %s", names[i]);
    printf("\n");
}

static void *writer(void *p) {
    struct timespec t = {0, 30000000};
    nanosleep(&t, NULL);
    uint64_t one = 3;
    if (write(*(int *)p, &one, 8) < 0) perror("write");
    return NULL;
}

static void paths(void) {
    char buf[600], cwd[300];
    SHOW(getcwd(cwd, sizeof cwd) != NULL);
    SHOW(mkdir("d", 0777));
    SHOW(mkdir("d", 0777));
    struct stat s;
    umask(027);
    SHOW(mkdir("d/e", 0777));
    stat("d/e", &s);
    printf("mode %o\n", s.st_mode);
    int fd = open("d/f", O_CREAT | O_RDWR | O_EXCL, 0666);
    printf("open %d\n", fd);
    SHOW(open("d/f", O_CREAT | O_RDWR | O_EXCL, 0666));
    SHOW(write(fd, "hello, world", 12));
    SHOW(pwrite(fd, "J", 1, 0));
    SHOW(pread(fd, buf, 5, 0));
    printf("%.5s\n", buf);
    SHOW(lseek(fd, 0, SEEK_CUR));
    fstat(fd, &s);
    printf("size %ld mode %o links %ld\n", (long)s.st_size, s.st_mode, (long)s.st_nlink);
    SHOW(link("d/f", "d/g"));
    SHOW(symlink("f", "d/s"));
    SHOW(readlink("d/s", buf, sizeof buf));
    lstat("d/s", &s);
    printf("lstat %o %ld\n", s.st_mode, (long)s.st_size);
    struct statx x;
    SHOW(statx(AT_FDCWD, "d/s", 0, STATX_BASIC_STATS, &x));
    printf("statx %o %ld %u\n", x.stx_mode, (long)x.stx_size, x.stx_nlink);
    list("d");
    SHOW(chdir("d"));
    printf("cwd %s\n", getcwd(buf, sizeof buf) + strlen(cwd));
    SHOW(access("f", R_OK));
    SHOW(access("nothing", F_OK));
    SHOW(chmod("f", 0640));
    stat("f", &s);
    printf("mode %o\n", s.st_mode);
    SHOW(rename("g", "h"));
    SHOW(renameat2(AT_FDCWD, "h", AT_FDCWD, "f", RENAME_NOREPLACE));
    SHOW(truncate("f", 5));
    SHOW(ftruncate(fd, 100));
    SHOW(fallocate(fd, 0, 0, 8192));
    fstat(fd, &s);
    printf("size %ld\n", (long)s.st_size);
    struct timespec ts[2] = {{1000, 5}, {2000, 6}};
    SHOW(utimensat(AT_FDCWD, "f", ts, 0));
    stat("f", &s);
    printf("times %ld %ld %ld %ld\n", (long)s.st_atim.tv_sec, s.st_atim.tv_nsec, (long)s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
    SHOW(fsync(fd));
    int dir = open(".", O_RDONLY | O_DIRECTORY);
    SHOW(chdir("/"));
    SHOW(faccessat(dir, "f", R_OK, 0));
    SHOW(fchdir(dir));
    SHOW(rmdir("e"));
    SHOW(rmdir("f"));
    SHOW(unlinkat(dir, "s", 0));
    SHOW(unlink("h"));
    SHOW(unlink("h"));
    SHOW(open("f", O_RDONLY | O_DIRECTORY));
    SHOW(fcntl(fd, F_GETFL) & O_ACCMODE);
    SHOW(fcntl(fd, F_SETFD, FD_CLOEXEC));
    SHOW(fcntl(fd, F_GETFD));
    int d2 = fcntl(fd, F_DUPFD, 20);
    printf("dup %d\n", d2);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    SHOW(fcntl(fd, F_SETLK, &lock));
    SHOW(fcntl(fd, F_GETLK, &lock));
    printf("lock %d\n", lock.l_type == F_UNLCK);
    SHOW(flock(fd, LOCK_EX));
    int other = open("f", O_RDWR);
    SHOW(flock(other, LOCK_EX | LOCK_NB));
    struct statfs fs;
    SHOW(fstatfs(fd, &fs));
    printf("statfs %d %d\n", fs.f_bsize >= 512, fs.f_namelen >= 100);
    struct iovec v[2] = {{"abc", 3}, {"defg", 4}};
    SHOW(pwritev(fd, v, 2, 10));
    lseek(fd, 10, SEEK_SET);
    struct iovec w[2] = {{buf, 5}, {buf + 100, 2}};
    SHOW(readv(fd, w, 2));
    printf("%.5s %.2s\n", buf, buf + 100);
    int out = open("out", O_CREAT | O_RDWR, 0600);
    off_t off = 10;
    SHOW(sendfile(out, fd, &off, 7));
    printf("off %ld\n", (long)off);
    SHOW(pread(out, buf, 100, 0));
    close(dir), close(other), close(out), close(d2);
    SHOW(unlink("out"));
    SHOW(unlink("f"));
    fstat(fd, &s);
    printf("links %ld\n", (long)s.st_nlink);
    close(fd);
    SHOW(chdir(cwd));
    SHOW(rmdir("d"));
    list(".");
}

static void waiting(void) {
    int p[2], e = eventfd(5, 0);
    uint64_t v;
    SHOW(read(e, &v, 8));
    printf("eventfd %lu\n", v);
    pthread_t t;
    pthread_create(&t, NULL, writer, &e);
    struct pollfd pf[2] = {{.fd = e, .events = POLLIN}, {.fd = -1}};
    SHOW(poll(pf, 2, 0));
    SHOW(poll(pf, 2, -1));
    printf("revents %d %d\n", pf[0].revents, pf[1].revents);
    SHOW(read(e, &v, 8));
    printf("eventfd %lu\n", v);
    pthread_join(t, NULL);
    SHOW(pipe2(p, O_NONBLOCK));
    SHOW(read(p[0], &v, 1));
    fd_set r, w;
    FD_ZERO(&r);
    FD_ZERO(&w);
    FD_SET(p[0], &r);
    FD_SET(p[1], &w);
    struct timeval tv = {0, 10000};
    SHOW(select(p[1] + 1, &r, &w, NULL, &tv));
    printf("select %d %d\n", FD_ISSET(p[0], &r) != 0, FD_ISSET(p[1], &w) != 0);
    FD_SET(p[0], &r);
    struct timespec ts = {0, 10000000};
    SHOW(pselect(p[1] + 1, &r, NULL, NULL, &ts, NULL));
    int ep = epoll_create1(0);
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = 0x0123456789abcdef}, got[4];
    SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &ev));
    SHOW(epoll_wait(ep, got, 4, 10));
    SHOW(write(p[1], "x", 1));
    SHOW(epoll_wait(ep, got, 4, -1));
    printf("epoll %x %lx\n", got[0].events, (unsigned long)got[0].data.u64);
    close(p[1]);
    SHOW(read(p[0], &v, 8));
    pf[0] = (struct pollfd){.fd = p[0], .events = POLLIN};
    pf[1] = (struct pollfd){.fd = 99, .events = POLLIN};
    SHOW(poll(pf, 2, 1000));
    printf("revents %x %x\n", pf[0].revents, pf[1].revents);
    int tf = timerfd_create(CLOCK_MONOTONIC, 0);
    struct itimerspec its = {{0, 0}, {0, 20000000}};
    SHOW(timerfd_settime(tf, 0, &its, NULL));
    SHOW(read(tf, &v, 8));
    printf("timerfd %lu\n", v);
}

static void self(const char *exe) {
    char buf[4096];
    FILE *f = fopen("/proc/self/maps", "r");
    int stack = 0, heap = 0, lines = 0;
    free(malloc(100));
    while (f && fgets(buf, sizeof buf, f)) lines++, stack += strstr(buf, "[stack]") != NULL, heap += strstr(buf, "[heap]") != NULL;
    printf("maps %d stack %d heap %d\n", lines > 3, stack, heap);
    if (f) fclose(f);
    int fd = open("/proc/self/cmdline", O_RDONLY);
    long n = read(fd, buf, sizeof buf);
    printf("cmdline %d %s\n", n > 0 && strcmp(buf, exe) == 0, buf + strlen(buf) + 1 - (n <= 0));
    close(fd);
    n = readlink("/proc/self/exe", buf, sizeof buf - 1);
    buf[n > 0 ? n : 0] = 0;
    printf("exe %s\n", strrchr(buf, '/') ? strrchr(buf, '/') : "?");
    fd = open("data", O_CREAT | O_RDWR, 0600);
    sprintf(buf, "/proc/self/fd/%d", fd);
    char name[600];
    n = readlink(buf, name, sizeof name - 1);
    name[n > 0 ? n : 0] = 0;
    printf("fd %s\n", strrchr(name, '/') ? strrchr(name, '/') : "?");
    close(fd);
    unlink("data");
    f = fopen("/proc/self/stat", "r");
    int pid = 0;
    if (f && fscanf(f, "%d (%99[^)])", &pid, buf) == 2) printf("stat %d\n", pid == getpid());
    if (f) fclose(f);
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IONBF, 0);
    if (argc < 2 || chdir(argv[1]) != 0) return 2;
    paths();
    waiting();
    self(argv[0]);
    return 9;
}
