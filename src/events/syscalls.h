/*
 * syscalls.h - what to call a system call that was refused, and which class its arguments belong to.
 *
 * Only register values are looked at, never memory of the caller. The class is what the refusal hangs on (the
 * family of a socket, the namespaces of a clone), as a number, so that calls can be counted by it; its text
 * is made when an event is.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* Generated at build time (names_generate.c): where in the text the name of a number begins, 0 if it has
 * none. */
extern const char syscall_name_text[];
extern const uint16_t syscall_name_at[];
extern const size_t syscall_nnames;

/* "mount"; "syscall_999" for a number without a name. Returns dst, or a constant. */
const char *syscall_name(int nr, char *dst, size_t cap);

/* "x86_64" for AUDIT_ARCH_X86_64 and so on. */
const char *syscall_arch(uint32_t arch, char *dst, size_t cap);

/* The class of the arguments; 0 for calls that have only one. */
uint32_t syscall_class(int nr, const uint64_t args[6]);

/* The class in words, "" when the call has only one: "AF_PACKET", "CLONE_NEWUSER|CLONE_NEWNS", "mode 04755".
 */
const char *syscall_class_text(int nr, uint32_t class, char *dst, size_t cap);
