/* Makes the accesses of a case file under the data MMU of a sun4u machine and records what it did.

   The host links this with its cases at `cases` (format: mmu/walk/tests/oracle/bare_sparc64.rs) and starts a machine from
   it as from its PROM. Instructions are physical throughout. For each case: TLB entry 0, the context registers, the TSB
   register and the SFSR are set, the data MMU is turned on, the access is made, and the data MMU is off again. Memory
   from FILL to FILL_END holds in every doubleword its own address. */

        .equ    CASE, 96                /* bytes of a case */
        .equ    RESULT, 64              /* bytes of a result */
        .equ    FILL, 0x1000000
        .equ    FILL_END, 0x2000000
        .equ    ASI_PHYSICAL, 0x14
        .equ    ASI_LSU, 0x45
        .equ    ASI_DMMU, 0x58
        .equ    ASI_DTLB_IN, 0x5c
        .equ    ASI_DTLB, 0x5d
        .equ    PSTATE_PRIV, 4
        .equ    DATA_MMU, 8

        .globl  results, done
results = 0x400000
done    = 0x3f0000

        .section .text
        .register %g2, #scratch
        .register %g3, #scratch
        .globl  _start
_start: .skip   0x20
        ba,a    begin                   /* power-on reset */
        nop
        .skip   0x18
        ba,a    begin                   /* any other */
        nop

        .balign 32
begin:  wrpr    %g0, PSTATE_PRIV, %pstate
        wrpr    %g0, 0, %tl
        stxa    %g0, [%g0] ASI_LSU      /* both MMUs off */
        membar  #Sync
        wrpr    %g0, 7, %cleanwin
        wrpr    %g0, 6, %cansave
        wrpr    %g0, 0, %canrestore
        wrpr    %g0, 0, %otherwin

        /* Where this runs, and the trap table. */
1:      rd      %pc, %l7
        set     1b - _start, %o0
        sub     %l7, %o0, %l7           /* _start */
        set     table - _start, %o0
        add     %l7, %o0, %o0
        wrpr    %o0, 0, %tba

        /* Every doubleword holds its address. */
        set     FILL, %o0
        set     FILL_END, %o1
2:      stxa    %o0, [%o0] ASI_PHYSICAL
        add     %o0, 8, %o0
        cmp     %o0, %o1
        bne,pt  %xcc, 2b
         nop

        /* No TLB entry. */
        mov     63 * 8, %o0
3:      stxa    %g0, [%o0] ASI_DTLB
        membar  #Sync
        subcc   %o0, 8, %o0
        bge,pt  %xcc, 3b
         nop

        set     cases - _start, %l0
        add     %l7, %l0, %l0
        set     results, %l1
        set     count - _start, %o0
        ldx     [%l7 + %o0], %l2
        set     next - _start, %l5
        add     %l7, %l5, %l5
        set     magic - _start, %o0
        ldx     [%l7 + %o0], %l6

case:   mov     0x30, %o0
        ldx     [%l0 + 24], %o1
        stxa    %o1, [%o0] ASI_DMMU     /* Tag Access */
        ldx     [%l0 + 32], %o1
        stxa    %o1, [%g0] ASI_DTLB     /* entry 0 */
        membar  #Sync
        /* Tag Access is not what the entry has. */
        stxa    %g0, [%o0] ASI_DMMU
        mov     0x08, %o0
        ldx     [%l0 + 40], %o1
        stxa    %o1, [%o0] ASI_DMMU     /* primary context */
        mov     0x10, %o0
        ldx     [%l0 + 48], %o1
        stxa    %o1, [%o0] ASI_DMMU     /* secondary context */
        mov     0x28, %o0
        ldx     [%l0 + 56], %o1
        stxa    %o1, [%o0] ASI_DMMU     /* TSB */
        mov     0x18, %o0
        ldx     [%l0 + 64], %o1
        stxa    %o1, [%o0] ASI_DMMU     /* SFSR */
        membar  #Sync
        mov     RESULT - 8, %o0
4:      stx     %g0, [%l1 + %o0]
        subcc   %o0, 8, %o0
        bge,pt  %xcc, 4b
         nop

        ldx     [%l0 + 0], %o5          /* 0 load, 1 store, 2 compare and swap */
        ldx     [%l0 + 8], %o1          /* address */
        ldx     [%l0 + 80], %l3         /* where it should lead, or all ones */
        ldx     [%l0 + 16], %o2
        wr      %g0, %o2, %asi
        ldx     [%l0 + 72], %o3         /* PSTATE.PRIV */
        mov     DATA_MMU, %o4
        mov     %l6, %o2                /* what stores leave */
        cmp     %o5, 1
        be,pn   %xcc, store
         nop
        bg,pn   %xcc, swap
         nop

        stxa    %o4, [%g0] ASI_LSU
        membar  #Sync
        wrpr    %o3, 0, %pstate
        ldxa    [%o1] %asi, %o2
        ta      0x10
        nop
store:  stxa    %o4, [%g0] ASI_LSU
        membar  #Sync
        wrpr    %o3, 0, %pstate
        stxa    %o2, [%o1] %asi
        ta      0x10
        nop
swap:   stxa    %o4, [%g0] ASI_LSU
        membar  #Sync
        wrpr    %o3, 0, %pstate
        casxa   [%o1] %asi, %l3, %o2
        ta      0x10
        nop

        /* Any trap: what the MMU says. A trap that the guest makes itself, 0x110, is the end of an access without one. */
trap:   stxa    %g0, [%g0] ASI_LSU
        membar  #Sync
        rdpr    %tt, %o3
        cmp     %o3, 0x110
        be,pn   %xcc, access_done
         nop
        stx     %o3, [%l1 + 0]
        mov     0x18, %o0
        ldxa    [%o0] ASI_DMMU, %o3
        stx     %o3, [%l1 + 8]          /* SFSR */
        mov     0x20, %o0
        ldxa    [%o0] ASI_DMMU, %o3
        stx     %o3, [%l1 + 16]         /* SFAR */
        mov     0x30, %o0
        ldxa    [%o0] ASI_DMMU, %o3
        stx     %o3, [%l1 + 24]         /* Tag Access */
        ldxa    [%g0] ASI_DMMU, %o3
        stx     %o3, [%l1 + 32]         /* Tag Target */
        ldxa    [%g0] 0x59, %o3
        stx     %o3, [%l1 + 40]         /* 8K pointer */
        ldxa    [%g0] 0x5a, %o3
        stx     %o3, [%l1 + 48]         /* 64K pointer */
        ba,a    leave
        nop
access_done:
        cmp     %o5, 0
        be,a,pn %xcc, leave
         stx    %o2, [%l1 + 56]         /* what a load found */
        cmp     %l3, -1
        be,pn   %xcc, leave
         nop
        ldxa    [%l3] ASI_PHYSICAL, %o2
        stx     %o2, [%l1 + 56]         /* what a store left */
        stxa    %l3, [%l3] ASI_PHYSICAL
leave:  wrpr    %g0, 0, %tl
        wrpr    %g0, PSTATE_PRIV, %pstate
        jmp     %l5
         nop

next:   add     %l0, CASE, %l0
        add     %l1, RESULT, %l1
        subcc   %l2, 1, %l2
        bne,pt  %xcc, case
         nop
        set     done, %o0
        stx     %l6, [%o0]
5:      ba,a    5b
        nop

        .balign 0x8000
table:  .rept   0x200
        .balign 32
        ba,a    trap
        nop
        .endr

        .balign 16
magic:  .quad   0x5ca1ab1e5ca1ab1e
        .balign 16
count:  .quad   (cases_end - cases) / CASE
        .balign 16
cases:  .incbin "cases.bin"
cases_end:
