/* Makes the accesses of a case file under real DAT and records what the machine did.

   The host links this with its cases at `cases` (format: mmu/walk/tests/oracle/bare_s390x.rs) and loads it on a machine
   without an operating system. For each case: the entries go to memory, control registers are loaded, the access is made
   in secondary-space mode (a fetch: in home-space mode), while instructions come from a primary space that is real.
   Memory below `_start` holds in every doubleword that is no entry its own address. */

        .equ    CASE, 128               /* bytes of a case */
        .equ    RESULT, 40              /* bytes of a result */
        .equ    PGM_CODE, 0x8e
        .equ    TEID, 0xa8
        .equ    PGM_OLD, 0x150
        .equ    SVC_OLD, 0x140
        .equ    PGM_NEW, 0x1d0
        .equ    SVC_NEW, 0x1c0
        .equ    FILL_FROM, 0x2000       /* behind the prefix area */
        .equ    SVC, 0x0a42

        .text
        .globl  _start
_start: larl    %r1, psw64              /* 64-bit addressing, whatever we were started in */
        lpswe   0(%r1)
begin:  lctlg   %c0, %c0, cr0_base - psw64(%r1)

        /* Every doubleword holds its address. */
        lghi    %r2, FILL_FROM
        larl    %r3, _start
fill:   stg     %r2, 0(%r2)
        aghi    %r2, 8
        clgr    %r2, %r3
        jl      fill

        larl    %r12, cases
        larl    %r13, results
        larl    %r14, count
        lg      %r14, 0(%r14)

case:   larl    %r11, psw64
        /* New PSWs, which a case may have overwritten. */
        mvc     PGM_NEW(16), pgm_psw - psw64(%r11)
        mvc     SVC_NEW(16), svc_psw - psw64(%r11)
        xc      PGM_CODE(2), PGM_CODE
        xc      TEID(8), TEID
        xc      0(RESULT, %r13), 0(%r13)

        /* Five entries: address (or all ones) and value. */
        lghi    %r0, 5
        la      %r2, 32(%r12)
entry:  lg      %r3, 0(%r2)
        cghi    %r3, -1
        je      1f
        lg      %r4, 8(%r2)
        stg     %r4, 0(%r3)
1:      la      %r2, 16(%r2)
        brctg   %r0, entry

        lg      %r1, 8(%r12)            /* virtual address */
        lg      %r10, 112(%r12)         /* where it should lead, or all ones */
        ptlb
        lctlg   %c7, %c7, 24(%r12)
        lctlg   %c13, %c13, 24(%r12)
        lctlg   %c1, %c1, real_space - psw64(%r11)

        lg      %r3, 0(%r12)            /* 0 load, 1 store, 2 fetch */
        cghi    %r3, 1
        je      store
        jh      fetch

load:   lctlg   %c0, %c0, 16(%r12)
        lpswe   load_psw - psw64(%r11)
do_load: lg     %r2, 0(%r1)
        sacf    0
        lctlg   %c0, %c0, cr0_base - psw64(%r11)
        lpswe   loaded_psw - psw64(%r11)
loaded: stg     %r2, 24(%r13)
        j       next

store:  lg      %r2, magic - psw64(%r11)
        lctlg   %c0, %c0, 16(%r12)
        lpswe   store_psw - psw64(%r11)
do_store: stg   %r2, 0(%r1)
        sacf    0
        lctlg   %c0, %c0, cr0_base - psw64(%r11)
        lpswe   stored_psw - psw64(%r11)
stored: cghi    %r10, -1
        je      next
        lg      %r2, 0(%r10)
        stg     %r2, 24(%r13)
        stg     %r10, 0(%r10)
        j       next

fetch:  cghi    %r10, -1
        je      1f
        lg      %r9, 0(%r10)
        mvhhi   0(%r10), SVC
1:      lg      %r2, home_mask - psw64(%r11)
        stg     %r2, home_psw - psw64(%r11)
        stg     %r1, home_psw + 8 - psw64(%r11)
        lctlg   %c0, %c0, 16(%r12)
        lpswe   home_psw - psw64(%r11)

on_svc: larl    %r11, psw64
        lctlg   %c0, %c0, cr0_base - psw64(%r11)
        lghi    %r2, SVC
        stg     %r2, 24(%r13)
        mvc     16(8, %r13), SVC_OLD + 8
        j       fetched

on_pgm: larl    %r11, psw64
        lctlg   %c0, %c0, cr0_base - psw64(%r11)
        mvc     6(2, %r13), PGM_CODE
        mvc     8(8, %r13), TEID
        mvc     16(8, %r13), PGM_OLD + 8
        lg      %r3, 0(%r12)
        cghi    %r3, 2
        jne     next
fetched: cghi   %r10, -1
        je      next
        stg     %r9, 0(%r10)

next:   /* The entries' places hold their addresses again. */
        lghi    %r0, 5
        la      %r2, 32(%r12)
2:      lg      %r3, 0(%r2)
        cghi    %r3, -1
        je      3f
        stg     %r3, 0(%r3)
3:      la      %r2, 16(%r2)
        brctg   %r0, 2b
        aghi    %r12, CASE
        aghi    %r13, RESULT
        brctg   %r14, case

        larl    %r1, done
        lg      %r2, magic - psw64(%r11)
        stg     %r2, 0(%r1)
        lpswe   wait_psw - psw64(%r11)

        .data
        .balign 16
psw64:      .quad 0x0000000180000000, begin
pgm_psw:    .quad 0x0000000180000000, on_pgm
svc_psw:    .quad 0x0000000180000000, on_svc
/* DAT on, secondary space. */
load_psw:   .quad 0x0400800180000000, do_load
store_psw:  .quad 0x0400800180000000, do_store
loaded_psw: .quad 0x0000000180000000, loaded
stored_psw: .quad 0x0000000180000000, stored
/* Home space. */
home_psw:   .quad 0, 0
home_mask:  .quad 0x0400c00180000000
wait_psw:   .quad 0x0002000180000000, 0
cr0_base:   .quad 0x0000000004000000
real_space: .quad 0x20
magic:      .quad 0x5ca1ab1e5ca1ab1e
        .balign 8
        .globl  count, cases, results, done
done:       .quad 0
count:      .quad (cases_end - cases) / CASE
        .balign 4096
cases:      .incbin "cases.bin"
cases_end:
        .balign 4096
results:    .space (cases_end - cases) / CASE * RESULT
        .balign 4096
