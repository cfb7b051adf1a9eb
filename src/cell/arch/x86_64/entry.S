/*
 * The way from program code into the kernel and back.
 *
 *   cell_entry        a patched call site jumps here: rcx = return address, rax = number. As `syscall` would,
 *                     it may use rcx and r11; the program's stack (its red zone too) stays as it is.
 *   cell_trap_entry   the host's SIGSYS handler sends the thread here after it has saved all registers, mostly by
 *                     cell_trap_leave.
 *   cell_fault_entry, cell_wake_entry   likewise after a fault, and after the wake-up signal.
 *   cell_exit_full    back, with every register out of thread.regs.
 *
 * Between the look at `pending` and the jump into program code a wake-up signal would come too late to be
 * seen. The handler knows this range (cell_exit_start..cell_exit_end): it sends the thread back to the look.
 * All that is restored comes from memory, so it may be done again.
 */
#define SELF      0
#define STACK_TOP 8
#define PENDING   16
#define R15       0x30
#define R14       0x38
#define R13       0x40
#define R12       0x48
#define RBP       0x50
#define RBX       0x58
#define R11       0x60
#define R10       0x68
#define R9        0x70
#define R8        0x78
#define RAX       0x80
#define RCX       0x88
#define RDX       0x90
#define RSI       0x98
#define RDI       0xa0
#define ORIG_RAX  0xa8
#define RIP       0xb0
#define RFLAGS    0xb8
#define RSP       0xc0

    .text
    .globl cell_entry
    .type cell_entry, @function
cell_entry:
    mov %rsp, %gs:RSP
    mov %rcx, %gs:RIP
    mov %rcx, %gs:RCX
    mov %rax, %gs:ORIG_RAX
    mov %rdi, %gs:RDI
    mov %rsi, %gs:RSI
    mov %rdx, %gs:RDX
    mov %r10, %gs:R10
    mov %r8, %gs:R8
    mov %r9, %gs:R9
    mov %rbx, %gs:RBX
    mov %rbp, %gs:RBP
    mov %r12, %gs:R12
    mov %r13, %gs:R13
    mov %r14, %gs:R14
    mov %r15, %gs:R15
    movq $0x202, %gs:RFLAGS
    mov %gs:STACK_TOP, %rsp
    cld
    mov %gs:SELF, %rdi
    call cell_syscall
    .globl cell_exit_start
cell_exit_start:
    cmpl $0, %gs:PENDING
    jne cell_exit_slow
    mov %gs:RDI, %rdi
    mov %gs:RSI, %rsi
    mov %gs:RDX, %rdx
    mov %gs:R10, %r10
    mov %gs:R8, %r8
    mov %gs:R9, %r9
    mov %gs:RBX, %rbx
    mov %gs:RBP, %rbp
    mov %gs:R12, %r12
    mov %gs:R13, %r13
    mov %gs:R14, %r14
    mov %gs:R15, %r15
    mov %gs:RAX, %rax
    mov %gs:RCX, %rcx
    mov %gs:RSP, %rsp
    jmp *%gs:RIP
    .globl cell_exit_end
cell_exit_end:

cell_exit_slow:
    mov %gs:STACK_TOP, %rsp
    mov %gs:SELF, %rdi
    call cell_exit_work
    .globl cell_exit_full
cell_exit_full:
    mov %gs:STACK_TOP, %rsp
    .globl cell_full_start
cell_full_start:
    cmpl $0, %gs:PENDING
    jne cell_exit_slow
    mov %gs:STACK_TOP, %rsp
    pushq %gs:RFLAGS
    popfq
    mov %gs:RDI, %rdi
    mov %gs:RSI, %rsi
    mov %gs:RDX, %rdx
    mov %gs:R10, %r10
    mov %gs:R8, %r8
    mov %gs:R9, %r9
    mov %gs:R11, %r11
    mov %gs:RBX, %rbx
    mov %gs:RBP, %rbp
    mov %gs:R12, %r12
    mov %gs:R13, %r13
    mov %gs:R14, %r14
    mov %gs:R15, %r15
    mov %gs:RAX, %rax
    mov %gs:RCX, %rcx
    mov %gs:RSP, %rsp
    jmp *%gs:RIP
    .globl cell_full_end
cell_full_end:

/* cell_trap_leave(fpstate, xfeatures): out of the SIGSYS handler without asking the host. The vector registers
 * come back from where the host has put them; nobody else has blocked a signal. */
    .globl cell_trap_leave
cell_trap_leave:
    mov %esi, %eax
    mov %rsi, %rdx
    shr $32, %rdx
    xrstor64 (%rdi)
    mov %gs:STACK_TOP, %rsp
    pushq $0x202
    popfq
    .globl cell_trap_entry
cell_trap_entry:
    mov %gs:SELF, %rdi
    call cell_syscall
    jmp cell_exit_full

    .globl cell_fault_entry
cell_fault_entry:
    mov %gs:SELF, %rdi
    call cell_fault
    jmp cell_exit_full

    .globl cell_wake_entry
cell_wake_entry:
    mov %gs:SELF, %rdi
    call cell_wake
    jmp cell_exit_full

/* What a host signal handler returns to: rt_sigreturn(2) from kernel text. */
    .globl cell_sigreturn
cell_sigreturn:
    mov $15, %eax
    syscall
    ud2

/* long cell_clone(flags, child's kernel stack top, clear_tid, thread *child): the child starts in
 * cell_child(child) on its own stack and never returns here. */
    .globl cell_clone
    .type cell_clone, @function
cell_clone:
    mov %rcx, %r9
    mov %rdx, %r10      /* ctid */
    xor %edx, %edx      /* ptid */
    xor %r8d, %r8d
    mov $56, %eax
    syscall
    test %rax, %rax
    jz 1f
    ret
1:  mov %r9, %rdi
    wrgsbase %r9
    xor %ebp, %ebp
    call cell_child
    jmp cell_exit_full

/* void cell_thread_end(_Atomic u32 *slot_state): the last host call of a thread. Its stack may belong to
 * somebody else as soon as the store is done. */
    .globl cell_thread_end
cell_thread_end:
    movl $0, (%rdi)
    xor %edi, %edi
    mov $60, %eax
    syscall
    ud2
    .globl cell_process_end
cell_process_end:
    movl $0, (%rdi)
    xor %edi, %edi
    mov $231, %eax
    syscall
    ud2

/* void cell_switch_stack(top, fn): calls fn on another stack; fn does not return. */
    .globl cell_switch_stack
cell_switch_stack:
    mov %rdi, %rsp
    xor %ebp, %ebp
    call *%rsi
    ud2

/*
 * long cell_futex_wait(word, op, value, timeout, bitset): futex(2) that no pending work can be lost to: the
 * look at `pending` and the call are one range for the wake-up handler, which turns it into -EINTR.
 */
    .globl cell_futex_wait
    .type cell_futex_wait, @function
cell_futex_wait:
    mov %rcx, %r10
    mov %r8, %r9
    xor %r8d, %r8d
    .globl cell_wait_start
cell_wait_start:
    cmpl $0, %gs:PENDING
    jne 1f
    mov $202, %eax
    syscall
    .globl cell_wait_end
cell_wait_end:
    ret
    .globl cell_wait_interrupted
cell_wait_interrupted:
1:  mov $-4, %rax
    ret

/*
 * Access to program memory. A fault between uaccess_start and uaccess_end continues at uaccess_fault, which
 * returns what the function returns on failure: copies the number of bytes left (rcx), the others -EFAULT.
 */
    .globl uaccess_start
uaccess_start:
    .globl uaccess_copy
uaccess_copy:           /* size_t uaccess_copy(dst, src, n) */
    mov %rdx, %rcx
    rep movsb
    mov %rcx, %rax
    ret
    .globl uaccess_zero
uaccess_zero:           /* size_t uaccess_zero(dst, n) */
    mov %rsi, %rcx
    xor %eax, %eax
    rep stosb
    mov %rcx, %rax
    ret
    .globl uaccess_load32
uaccess_load32:         /* size_t uaccess_load32(u32 *value, src): 0 or not */
    mov $4, %ecx
    mov (%rsi), %edx
    mov %edx, (%rdi)
    xor %eax, %eax
    ret
    .globl uaccess_store32
uaccess_store32:        /* size_t uaccess_store32(dst, value) */
    mov $4, %ecx
    mov %esi, (%rdi)
    xor %eax, %eax
    ret
    .globl uaccess_load64
uaccess_load64:
    mov $8, %ecx
    mov (%rsi), %rdx
    mov %rdx, (%rdi)
    xor %eax, %eax
    ret
    .globl uaccess_store64
uaccess_store64:
    mov $8, %ecx
    mov %rsi, (%rdi)
    xor %eax, %eax
    ret
    .globl uaccess_cmpxchg32
uaccess_cmpxchg32:      /* size_t uaccess_cmpxchg32(p, expected, desired, u32 *seen) */
    mov %rcx, %r8
    mov %esi, %eax
    mov $4, %ecx
    lock cmpxchg %edx, (%rdi)
    mov %eax, (%r8)
    xor %eax, %eax
    ret
    .globl uaccess_touch
uaccess_touch:          /* size_t uaccess_touch(p): 0 or not; may be written, and its page is there */
    mov $1, %ecx
    lock orb $0, (%rdi)
    xor %eax, %eax
    ret
    .globl uaccess_string
uaccess_string:         /* long uaccess_string(dst, src, n): length without 0, n if there is none */
    mov %rdx, %r8
    mov $-1, %rcx
    xor %eax, %eax
1:  cmp %r8, %rax
    je 2f
    mov (%rsi,%rax), %dl
    mov %dl, (%rdi,%rax)
    test %dl, %dl
    jz 2f
    inc %rax
    jmp 1b
2:  ret
    .globl uaccess_xsave
uaccess_xsave:          /* size_t uaccess_xsave(area, mask) */
    mov %rsi, %rax
    mov %rsi, %rdx
    shr $32, %rdx
    mov $1, %ecx
    xsave64 (%rdi)
    xor %eax, %eax
    ret
    .globl uaccess_xrstor
uaccess_xrstor:         /* size_t uaccess_xrstor(area, mask) */
    mov %rsi, %rax
    mov %rsi, %rdx
    shr $32, %rdx
    mov $1, %ecx
    xrstor64 (%rdi)
    xor %eax, %eax
    ret
    .globl uaccess_end
uaccess_end:
    .globl uaccess_fault
uaccess_fault:
    mov %rcx, %rax
    ret

/* Start of the program: the host's stack holds argc, argv, envp, auxv. */
    .globl _start
_start:
    lea early_thread(%rip), %rax /* the stack protector looks at %gs before there is a thread */
    wrgsbase %rax
    xor %ebp, %ebp
    mov %rsp, %rdi
    and $-16, %rsp
    call cell_boot
    ud2

    .bss
    .balign 64
early_thread:
    .zero 512

    .section .note.GNU-stack,"",@progbits
