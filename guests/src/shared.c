// Shared and private file mappings against reads and writes of the file, in a directory that the argument names.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static sigjmp_buf out;
static void bus(int sig) { siglongjmp(out, sig); }

static const char *er(void *p) { return p == MAP_FAILED ? strerrorname_np(errno) : "mapped"; }

/* What was stored through a mapping is in the file for whoever reads it, also while the last mapping goes. */
static int stored_fd;
static volatile int stored, seen;

static void *unmapper(void *p)
{
    for (int i = 1; i <= 150; i++) {
        volatile int *m = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, stored_fd, 0);
        for (int k = 0; k < 16; k++)
            m[k * 1024] = i;
        __atomic_store_n(&stored, i, __ATOMIC_SEQ_CST);
        munmap((void *)m, 65536);
        while (__atomic_load_n(&seen, __ATOMIC_SEQ_CST) != i)
            sched_yield();
    }
    return p;
}

static int stale(void)
{
    int wrong = 0;
    pthread_t t;
    stored_fd = open("raced", O_RDWR | O_CREAT | O_TRUNC, 0600);
    ftruncate(stored_fd, 65536);
    pthread_create(&t, NULL, unmapper, NULL);
    for (int i = 1; i <= 150; i++) {
        while (__atomic_load_n(&stored, __ATOMIC_SEQ_CST) != i)
            sched_yield();
        int v[2];
        pread(stored_fd, &v[0], 4, 61440);
        volatile int *m = mmap(NULL, 65536, PROT_READ, MAP_SHARED, stored_fd, 0);
        v[1] = m[14336];
        munmap((void *)m, 65536);
        wrong += v[0] != i || v[1] != i;
        __atomic_store_n(&seen, i, __ATOMIC_SEQ_CST);
    }
    pthread_join(t, NULL);
    return wrong;
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IONBF, 0);
    if (argc < 2 || chdir(argv[1]) != 0) return 2;
    int fd = open("m", O_CREAT | O_RDWR | O_TRUNC, 0600), ro = open("m", O_RDONLY);
    char buf[100];
    if (fd < 0 || ftruncate(fd, 10000) != 0) return 3;
    char *s = mmap(NULL, 12288, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *p = mmap(NULL, 12288, PROT_READ | PROT_WRITE, MAP_PRIVATE, ro, 0);
    strcpy(s + 4090, "across two pages");
    printf("read %zd", pread(fd, buf, 17, 4090));
    printf(" %s, private %s\n", buf, p + 4090);
    if (pwrite(fd, "WRITTEN", 7, 4090) != 7) return 4;
    printf("shared %s, private %s\n", s + 4090, p + 4090);
    p[4096] = '!';
    printf("shared %s, private %s\n", s + 4090, p + 4090);
    strcpy(s + 20, "second store");
    strcpy(s + 20, "third");
    printf("msync %d ", msync(s, 4096, MS_SYNC));
    printf("read %zd", pread(fd, buf, 17, 20));
    printf(" %s\n", buf);
    // Behind the end of the file, in its last page: not written back.
    s[10500] = 'x';
    struct stat st;
    fstat(fd, &st);
    printf("size %ld\n", (long)st.st_size);
    printf("read-only: %s\n", er(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ro, 0)));
    void *r = mmap(NULL, 4096, PROT_READ, MAP_SHARED, ro, 0);
    printf("mprotect %d %s\n", mprotect(r, 4096, PROT_READ | PROT_WRITE), strerrorname_np(errno));
    printf("munmap %d\n", munmap(s, 12288));
    printf("read %zd", pread(ro, buf, 20, 4085));
    printf(" %s\n", buf + 5);
    s = mmap(NULL, 12288, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    printf("again %s %s\n", s + 20, s + 4090);
    signal(SIGBUS, bus);
    s[9000] = 1;
    printf("truncate %d\n", ftruncate(fd, 5000));
    if (sigsetjmp(out, 1) == 0) printf("read %d\n", s[9000]);
    else printf("SIGBUS\n");
    if (sigsetjmp(out, 1) == 0) printf("within the last page %d\n", s[6000]);
    else printf("SIGBUS\n");
    printf("truncate %d\n", ftruncate(fd, 10000));
    printf("read %d %d\n", s[9000], s[6000]);
    strcpy(s + 8192, "at the end");
    int m = memfd_create("x", 0);
    printf("ftruncate %d\n", ftruncate(m, 4096));
    char *a = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, m, 0);
    char *b = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, m, 0);
    strcpy(a, "two views");
    printf("%s\n", b);
    int zero = open("/dev/zero", O_RDWR);
    char *z = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, zero, 0);
    z[5] = 3;
    printf("/dev/zero %d %d\n", z[4], z[5]);
    unsigned char core[3];
    char *an = mmap(NULL, 12288, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    an[4096] = 1;
    printf("mlock %d mincore %d", mlock(an, 4096), mincore(an, 12288, core));
    printf(" %d\n", core[1] & 1);
    munlock(an, 4096);
    printf("madvise %d", madvise(an, 12288, MADV_DONTNEED));
    printf(" %d\n", an[4096]);
    struct rlimit l;
    getrlimit(RLIMIT_NOFILE, &l);
    l.rlim_cur = 64;
    printf("setrlimit %d", setrlimit(RLIMIT_NOFILE, &l));
    getrlimit(RLIMIT_NOFILE, &l);
    printf(" %d\n", (int)l.rlim_cur);
    printf("stale %d\n", stale());
    // What is stored last is in the file when the process has ended.
    return 4;
}
