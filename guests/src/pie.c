/* A static position-independent executable without libc: where it is, its auxiliary vector, its own relocations. */
typedef unsigned int u32;
typedef unsigned long u64;

static long call(long nr, long a, long b, long c)
{
    register long r1 __asm__("1") = nr;
    register long r2 __asm__("2") = a;
    register long r3 __asm__("3") = b;
    register long r4 __asm__("4") = c;
    __asm__ volatile("svc 0" : "+d"(r2) : "d"(r1), "d"(r3), "d"(r4) : "memory", "cc");
    return r2;
}

static void say(const char *s)
{
    long n = 0;
    while (s[n]) {
        n++;
    }
    call(4, 1, (long)s, n);
}

typedef struct { u64 tag, value; } Dyn;
typedef struct { u64 offset, info, addend; } Rela;

extern Dyn _DYNAMIC[] __attribute__((visibility("hidden")));
extern char __ehdr_start[] __attribute__((visibility("hidden")));

static const char *const words[] = { "relocated ", "pointers ", "work\n" };
static const char *const *volatile table = words;

static u64 aux(const u64 *p, u64 key)
{
    for (; p[0] != 0; p += 2) {
        if (p[0] == key) {
            return p[1];
        }
    }
    return ~0ul;
}

__attribute__((used)) void program(const u64 *sp)
{
    u64 base = (u64)__ehdr_start, rela = 0, size = 0;
    const u64 *p = sp + 1 + sp[0] + 1;
    while (*p++ != 0) {
    }
    for (const Dyn *d = _DYNAMIC; d->tag != 0; d++) {
        rela = d->tag == 7 ? d->value : rela;
        size = d->tag == 8 ? d->value : size;
    }
    for (u64 at = 0; at < size; at += sizeof(Rela)) {
        const Rela *r = (const Rela *)(base + rela + at);
        if ((u32)r->info == 12) {
            *(u64 *)(base + r->offset) = base + r->addend;
        }
    }
    say(aux(p, 3) == base + 64 ? "AT_PHDR right\n" : "AT_PHDR wrong\n");
    say(aux(p, 9) - base < 0x10000 ? "AT_ENTRY right\n" : "AT_ENTRY wrong\n");
    say(aux(p, 7) == 0 ? "AT_BASE 0\n" : "AT_BASE is something\n");
    say(base > 0x1000000 ? "loaded high\n" : "loaded low\n");
    for (int i = 0; i < 3; i++) {
        say(table[i]);
    }
    call(248, 6, 0, 0);
}

__asm__(".globl _start\n_start:\n lgr %r2,%r15\n aghi %r15,-160\n jg program\n");
