// Runs a batch of instruction sequences from a file and writes the state each one leaves to standard output.
// tests/src/differential/batch.rs describes both formats and the addresses.
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <ucontext.h>
#include <unistd.h>

enum { PAGE = 4096, DATA_BYTES = 2 * PAGE, IMAGE_BYTES = 3 * PAGE, CODE_BYTES = 2 * PAGE, SHOWN = 1024 };
#define CODE 0x5b5d0000ul
#define DATA 0x5b6e1000ul
#define MAGIC "RWSEQ\0\0\1"

struct header {
    char magic[8];
    uint32_t count, zero;
    uint8_t image[IMAGE_BYTES];
};

struct state {
    uint64_t gr[16], fr[16];
    uint32_t ar[16];
    uint32_t fpc, pm;  // pm: condition code and program mask as in bits 34 to 39 of INSERT PROGRAM MASK
};

struct input {
    struct state s;
    uint16_t start, code, patches, zero;
};

struct change {
    uint16_t at;
    uint8_t byte, zero;
};

struct output {
    struct state s;
    uint32_t signal, code;
    uint64_t address, psw, hash;
    uint32_t changed, zero;
    struct change first[SHOWN];
};

// What the assembly below reads and writes.
struct state in, out;
struct { uint64_t gr[10], fr[8]; uint32_t ar[16], fpc; } kept;
void enter(void);
void leave(void);
void recover(void);

__asm__(
    ".text\n"
    "enter:\n"
    "  larl %r1, kept\n"
    "  stmg %r6, %r15, 0(%r1)\n"
    "  std %f8, 80(%r1)\n  std %f9, 88(%r1)\n  std %f10, 96(%r1)\n  std %f11, 104(%r1)\n"
    "  std %f12, 112(%r1)\n  std %f13, 120(%r1)\n  std %f14, 128(%r1)\n  std %f15, 136(%r1)\n"
    "  stam %a0, %a15, 144(%r1)\n"
    "  stfpc 208(%r1)\n"
    "  larl %r15, in\n"
    "  ld %f0, 128(%r15)\n  ld %f1, 136(%r15)\n  ld %f2, 144(%r15)\n  ld %f3, 152(%r15)\n"
    "  ld %f4, 160(%r15)\n  ld %f5, 168(%r15)\n  ld %f6, 176(%r15)\n  ld %f7, 184(%r15)\n"
    "  ld %f8, 192(%r15)\n  ld %f9, 200(%r15)\n  ld %f10, 208(%r15)\n  ld %f11, 216(%r15)\n"
    "  ld %f12, 224(%r15)\n  ld %f13, 232(%r15)\n  ld %f14, 240(%r15)\n  ld %f15, 248(%r15)\n"
    "  lam %a0, %a15, 256(%r15)\n"
    "  lfpc 320(%r15)\n"
    "  l %r0, 324(%r15)\n"
    "  sll %r0, 24\n"
    "  spm %r0\n"
    "  lmg %r0, %r15, 0(%r15)\n"
    "  jg door\n"
    // No register is free here: the first one is stored relative to the instruction.
    "leave:\n"
    "  stgrl %r15, out + 120\n"
    "  larl %r15, out\n"
    "  stmg %r0, %r14, 0(%r15)\n"
    "  ipm %r0\n"
    "  srl %r0, 24\n"
    "  st %r0, 324(%r15)\n"
    "  stfpc 320(%r15)\n"
    "  stam %a0, %a15, 256(%r15)\n"
    "  std %f0, 128(%r15)\n  std %f1, 136(%r15)\n  std %f2, 144(%r15)\n  std %f3, 152(%r15)\n"
    "  std %f4, 160(%r15)\n  std %f5, 168(%r15)\n  std %f6, 176(%r15)\n  std %f7, 184(%r15)\n"
    "  std %f8, 192(%r15)\n  std %f9, 200(%r15)\n  std %f10, 208(%r15)\n  std %f11, 216(%r15)\n"
    "  std %f12, 224(%r15)\n  std %f13, 232(%r15)\n  std %f14, 240(%r15)\n  std %f15, 248(%r15)\n"
    "recover:\n"
    "  lhi %r0, 0\n"
    "  spm %r0\n"
    "  larl %r1, kept\n"
    "  ld %f8, 80(%r1)\n  ld %f9, 88(%r1)\n  ld %f10, 96(%r1)\n  ld %f11, 104(%r1)\n"
    "  ld %f12, 112(%r1)\n  ld %f13, 120(%r1)\n  ld %f14, 128(%r1)\n  ld %f15, 136(%r1)\n"
    "  lam %a0, %a15, 144(%r1)\n"
    "  lfpc 208(%r1)\n"
    "  lmg %r6, %r15, 0(%r1)\n"
    "  br %r14\n");

static volatile sig_atomic_t running;
static struct output result;

// The access registers are the sequence's: nothing here may use thread-local storage.
static void caught(int sig, siginfo_t *i, void *context) {
    uint32_t fpc;
    __asm__ volatile("stfpc %0" : "=Q"(fpc));
    if (!running) {
        if (sig == SIGALRM) return;
        static const char text[] = "sequences: a signal outside every sequence\n";
        (void)!write(2, text, sizeof text - 1);
        _exit(3);
    }
    running = 0;
    ucontext_t *u = context;
    memcpy(out.gr, u->uc_mcontext.gregs, sizeof out.gr);
    for (int n = 0; n < 16; n++) memcpy(&out.fr[n], &u->uc_mcontext.fpregs.fprs[n], 8);
    memcpy(out.ar, u->uc_mcontext.aregs, sizeof out.ar);
    out.fpc = fpc;
    out.pm = u->uc_mcontext.psw.mask >> 40 & 0x3f;
    result.signal = sig;
    result.code = i->si_code;
    result.address = (uintptr_t)i->si_addr;
    result.psw = u->uc_mcontext.psw.addr;
    u->uc_mcontext.psw.addr = (uintptr_t)recover;
}

static void fail(const char *what) {
    perror(what);
    exit(2);
}

static void *map(uintptr_t at, size_t bytes, int prot) {
    void *p = mmap((void *)at, bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (p != (void *)at) fail("mmap");
    return p;
}

// BRANCH RELATIVE ON CONDITION LONG, always.
static void jump(uintptr_t at, uintptr_t to) {
    uint8_t *p = (uint8_t *)at;
    int32_t halfwords = (int32_t)((int64_t)(to - at) / 2);
    p[0] = 0xc0, p[1] = 0xf4;
    memcpy(p + 2, &halfwords, 4);
}

// Notes what changed, and undoes it.
static void compare(uint8_t *data, const uint8_t *wanted) {
    uint64_t hash = 0xcbf29ce484222325;
    for (int block = 0; block < DATA_BYTES; block += 256) {
        if (memcmp(data + block, wanted + block, 256) == 0) continue;
        for (int at = block; at < block + 256; at++) {
            if (data[at] == wanted[at]) continue;
            hash = (hash ^ ((uint64_t)at << 8 | data[at])) * 0x100000001b3;
            if (result.changed < SHOWN) result.first[result.changed] = (struct change){at, data[at], 0};
            result.changed++;
        }
        memcpy(data + block, wanted + block, 256);
    }
    result.hash = hash;
}

static uint8_t wanted[DATA_BYTES];

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: sequences BATCH\n");
        return 2;
    }
    int fd = open(argv[1], O_RDONLY);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) fail(argv[1]);
    uint8_t *file = malloc(st.st_size);
    if (!file) fail("malloc");
    for (off_t n = 0; n < st.st_size;) {
        ssize_t r = read(fd, file + n, st.st_size - n);
        if (r <= 0) fail(argv[1]);
        n += r;
    }
    struct header *h = (struct header *)file;
    if ((size_t)st.st_size < sizeof *h || memcmp(h->magic, MAGIC, 8) != 0) {
        fprintf(stderr, "sequences: %s is no batch of version 1\n", argv[1]);
        return 2;
    }
    uint8_t *code = map(CODE, CODE_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC);
    uint8_t *data = map(DATA, IMAGE_BYTES, PROT_READ | PROT_WRITE);
    memcpy(data, h->image, IMAGE_BYTES);
    memcpy(wanted, h->image, DATA_BYTES);
    if (mprotect(data + DATA_BYTES, PAGE, PROT_READ) != 0) fail("mprotect");
    jump(CODE + 8, (uintptr_t)leave);

    static uint8_t stack[64 * 1024];
    stack_t alt = {.ss_sp = stack, .ss_size = sizeof stack};
    if (sigaltstack(&alt, NULL) != 0) fail("sigaltstack");
    struct sigaction a = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    int all[] = {SIGILL, SIGFPE, SIGSEGV, SIGBUS, SIGTRAP, SIGALRM};
    for (int n = 0; n < 6; n++)
        if (sigaction(all[n], &a, NULL) != 0) fail("sigaction");

    static char buffer[1 << 20];
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    const uint8_t *p = file + sizeof *h, *end = file + st.st_size;
    for (uint32_t n = 0; n < h->count; n++) {
        struct input i;
        if ((size_t)(end - p) < sizeof i) goto cut;
        memcpy(&i, p, sizeof i);
        p += sizeof i;
        const uint8_t *patches = p;
        for (int k = 0; k < i.patches; k++) {
            uint16_t place[2];
            if ((size_t)(end - p) < sizeof place) goto cut;
            memcpy(place, p, sizeof place);
            p += sizeof place;
            if (end - p < place[1] || place[0] + place[1] > DATA_BYTES) goto cut;
            memcpy(data + place[0], p, place[1]);
            memcpy(wanted + place[0], p, place[1]);
            p += place[1];
        }
        if (end - p < i.code || i.start + i.code > CODE_BYTES) goto cut;
        memcpy(code + i.start, p, i.code);
        p += i.code;
        jump(CODE, CODE + i.start);

        // A sequence that loops is ended by this.
        if (n % 256 == 0) alarm(20);
        memset(&result, 0, offsetof(struct output, first));
        in = i.s;
        running = 1;
        enter();
        running = 0;
        result.s = out;
        compare(data, wanted);
        if (fwrite(&result, sizeof result, 1, stdout) != 1) fail("write");

        for (const uint8_t *q = patches; q < p - i.code;) {
            uint16_t place[2];
            memcpy(place, q, sizeof place);
            memcpy(data + place[0], h->image + place[0], place[1]);
            memcpy(wanted + place[0], h->image + place[0], place[1]);
            q += sizeof place + place[1];
        }
    }
    if (fflush(stdout) != 0) fail("write");
    return 0;
cut:
    fprintf(stderr, "sequences: %s ends within a sequence, or a sequence is too long\n", argv[1]);
    return 2;
}
