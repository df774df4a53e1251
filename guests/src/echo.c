/* Input and output of several kinds:
     echo            copies standard input to standard output
     echo FILE       copies a file to standard output
     echo -e NAME    prints an environment variable, or exits with 1 if there is none
     echo -y BYTES   writes that many bytes of numbered lines
     echo -r FILE BYTES  reads that many bytes in one call, and says how many came
     echo -c         computes for ever
     echo -s         waits for a signal, says which came and who sent it, and exits with 5 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int copy(int from)
{
    static char buffer[9000];
    for (;;) {
        ssize_t n = read(from, buffer, sizeof buffer);
        if (n <= 0) {
            return n == 0 ? 0 : 4;
        }
        for (ssize_t at = 0; at < n;) {
            ssize_t w = write(1, buffer + at, (size_t)(n - at));
            if (w < 0) {
                fprintf(stderr, "echo: write: %s\n", strerror(errno));
                return 3;
            }
            at += w;
        }
    }
}

static void taken(int sig, siginfo_t *info, void *context)
{
    (void)context;
    dprintf(1, "signal %d, code %d\n", sig, info->si_code);
    _exit(5);
}

static _Noreturn void wait_for_signal(void)
{
    struct sigaction action = {.sa_sigaction = taken, .sa_flags = SA_SIGINFO};
    sigaction(SIGTERM, &action, 0);
    sigaction(SIGHUP, &action, 0);
    /* Without a buffer, which the handler would find half written. */
    dprintf(1, "waiting\n");
    for (;;) {
        pause();
    }
}

int main(int argc, char **argv)
{
    if (argc == 1) {
        return copy(0);
    }
    if (!strcmp(argv[1], "-s")) {
        wait_for_signal();
    }
    if (!strcmp(argv[1], "-c")) {
        for (volatile unsigned n = 0;; n++) {
        }
    }
    if (!strcmp(argv[1], "-r")) {
        size_t wanted = (size_t)atol(argv[3]);
        char *all = malloc(wanted);
        printf("%zd\n", read(open(argv[2], O_RDONLY), all, wanted));
        return fflush(stdout) ? 3 : 0;
    }
    if (argc == 2) {
        int fd = open(argv[1], O_RDONLY);
        if (fd < 0) {
            fprintf(stderr, "echo: open %s: %s\n", argv[1], strerror(errno));
            return 2;
        }
        return copy(fd);
    }
    if (!strcmp(argv[1], "-e")) {
        const char *v = getenv(argv[2]);
        return v ? puts(v) < 0 : 1;
    }
    long bytes = 0, wanted = atol(argv[2]);
    for (long line = 0; bytes < wanted; line++) {
        bytes += printf("line %ld\n", line);
    }
    return fflush(stdout) ? 3 : 0;
}
