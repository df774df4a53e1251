/* Makes the accesses of a case file through radix trees and records what the machine did.

   The host links this with its cases at `cases` (format: mmu/walk/tests/oracle/bare_ppc64.rs); the image is loaded at
   real address 0 and starts at 0x10 in hypervisor real mode, big-endian. For each case: the entries go to memory, the
   registers are loaded, everything cached is invalidated, and the access is made with only its own kind of address
   translated: instructions of loads and stores stay real. All other memory above the image is zero. */

        .equ    CASE, 512               /* bytes of a case */
        .equ    RESULT, 80              /* bytes of a result */
        .equ    LPCR_UPRT_HR, 0x0050
        .equ    SC_1, 0x44000022        /* sc 1: a hypervisor call */

        .macro  address reg, symbol
        lis     \reg, \symbol@h
        ori     \reg, \reg, \symbol@l
        .endm

        .macro  vector at
        .org    \at
        li      20, \at
        b       finish
        .endm

        .machine power9
        .text
        .globl  _start
        .org    0x10
_start: b       begin
        vector  0x200
        vector  0x300
        vector  0x380
        vector  0x400
        vector  0x480
        vector  0x600
        vector  0x700
        vector  0x800
        vector  0xc00
        vector  0xd00
        vector  0xe00
        vector  0xe20
        vector  0xe40
        vector  0xf80

        .org    0x2000
begin:  lis     3, LPCR_UPRT_HR
        mtspr   318, 3
        isync
        address 12, cases
        address 13, results
        address 14, count
        ld      14, 0(14)

case:   ld      3, 72(12)               /* entries: address and value */
        mtctr   3
        addi    4, 12, 80
1:      ld      5, 0(4)
        ld      6, 8(4)
        std     6, 0(5)
        addi    4, 4, 16
        bdnz    1b
        ld      3, 64(12)
        mtspr   464, 3                  /* PTCR */
        ld      3, 32(12)
        mtspr   319, 3                  /* LPIDR */
        ld      3, 24(12)
        mtspr   48, 3                   /* PIDR */
        ld      3, 40(12)
        mtspr   29, 3                   /* AMR */
        ld      3, 48(12)
        mtspr   61, 3                   /* IAMR */
        li      3, 0
        mtspr   18, 3                   /* DSISR */
        mtspr   306, 3                  /* HDSISR */
        isync
        ptesync
        li      3, 0xc00                /* all */
        li      4, 0
        tlbie   3, 4, 2, 0, 1
        tlbie   3, 4, 2, 1, 1
        eieio
        tlbsync
        ptesync

        ld      10, 8(12)               /* effective address */
        ld      11, 56(12)              /* where it should lead, or all ones */
        ld      15, 16(12)              /* MSR of the access */
        li      20, 0
        li      21, 0
        mfmsr   16
        ld      3, 0(12)                /* 0 load, 1 store, 2 fetch */
        cmpdi   3, 1
        beq     store
        bgt     fetch

        cmpdi   11, -1
        beq     2f
        std     11, 0(11)
2:      mtmsrd  15
        isync
        ld      21, 0(10)
        mtmsrd  16
        isync
        b       finish

store:  address 22, magic
        ld      22, 0(22)
        mtmsrd  15
        isync
        std     22, 0(10)
        mtmsrd  16
        isync
        cmpdi   11, -1
        beq     finish
        ld      21, 0(11)
        b       finish

fetch:  cmpdi   11, -1
        beq     3f
        address 3, SC_1
        stw     3, 0(11)
3:      mtspr   314, 10
        mtspr   315, 15
        hrfid

finish: std     20, 0(13)
        mfspr   3, 18
        std     3, 8(13)
        mfspr   3, 19
        std     3, 16(13)
        mfspr   3, 306
        std     3, 24(13)
        mfspr   3, 307
        std     3, 32(13)
        mfspr   3, 816
        std     3, 40(13)
        mfspr   3, 27
        std     3, 48(13)
        mfspr   3, 315
        std     3, 56(13)
        std     21, 64(13)

        /* Memory is zero again. */
        li      6, 0
        cmpdi   11, -1
        beq     4f
        clrrdi  5, 11, 3
        std     6, 0(5)
4:      ld      3, 72(12)
        mtctr   3
        addi    4, 12, 80
5:      ld      5, 0(4)
        std     6, 0(5)
        addi    4, 4, 16
        bdnz    5b
        addi    12, 12, CASE
        addi    13, 13, RESULT
        addi    14, 14, -1
        cmpdi   14, 0
        bne     case

        address 3, magic
        ld      4, 0(3)
        address 3, done
        std     4, 0(3)
6:      b       6b

        .balign 4096
        .globl  count, cases, results, done
magic:  .quad   0x5ca1ab1e5ca1ab1e
done:   .quad   0
count:  .quad   (cases_end - cases) / CASE
        .balign 4096
cases:  .incbin "cases.bin"
cases_end:
        .balign 4096
results: .space (cases_end - cases) / CASE * RESULT
        .balign 4096
