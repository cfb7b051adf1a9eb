/*
 * erofs_format.h - EROFS on disk, as far as an uncompressed image uses it. All numbers are little-endian.
 * After the kernel's documentation, filesystems/erofs.rst.
 *
 * Inode `nid` lies at the start of the metadata + nid * 32. Attributes follow it, then, for FLAT_INLINE, the
 * last part of the file, which does not cross a block.
 */
#pragma once
#include "cell/base/types.h"

enum {
    EROFS_SUPER_OFFSET = 1024,
    EROFS_MAGIC = 0xe0f5e1e2,
    EROFS_BLOCK = 4096,
    EROFS_SLOT = 32, /* what nids count */
    /* Incompatible features that change nothing for files without compression. */
    EROFS_INCOMPAT_ZERO_PADDING = 1,

    EROFS_FLAT_PLAIN = 0,
    EROFS_FLAT_INLINE = 2,
};

struct erofs_super {
    u32 magic, checksum, feature_compat;
    u8 block_bits, ext_slots;
    u16 root_nid;
    u64 inodes, build_time;
    u32 build_time_nsec, blocks, meta_block, xattr_block;
    u8 uuid[16], volume[16];
    u32 feature_incompat;
    u16 compression, extra_devices, device_slot;
    u8 dir_block_bits, reserved[37];
};

/* Bit 0 of format: the inode is an extended one; bits 1-3: the layout of its data. */
struct erofs_inode_compact {
    u16 format, xattr_count, mode, nlink;
    u32 size, reserved;
    u32 data; /* first block, or device number */
    u32 ino;
    u16 uid, gid;
    u32 reserved2;
};

struct erofs_inode_extended {
    u16 format, xattr_count, mode, reserved;
    u64 size;
    u32 data, ino, uid, gid;
    u64 mtime;
    u32 mtime_nsec, nlink;
    u8 reserved2[16];
};

/* A directory's block: entries, then their names, sorted. The first name's offset tells how many there are; a
 * name ends where the next begins, the last one at a 0 or the end of the block. */
struct erofs_dirent {
    u64 nid;
    u16 name_offset;
    u8 type, reserved;
} __attribute__((packed));

_Static_assert(sizeof(struct erofs_super) == 128, "as on disk");
_Static_assert(sizeof(struct erofs_inode_compact) == 32, "as on disk");
_Static_assert(sizeof(struct erofs_inode_extended) == 64, "as on disk");
_Static_assert(sizeof(struct erofs_dirent) == 12, "as on disk");
