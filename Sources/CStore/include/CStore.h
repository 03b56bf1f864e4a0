// The Linux calls that the store needs and Swift's Glibc module does not offer.
#ifndef HOPGATE_CSTORE_H
#define HOPGATE_CSTORE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// The attributes of a file or folder that the store inspects.
typedef struct {
    uint64_t inode;
    uint64_t device;
    uint64_t size;
    uint64_t links;
    uint32_t mode;
    uint32_t owner;
    uint32_t group;
} hop_file_status;

/// O_PATH: a descriptor that only refers to a location, for the calls that take a folder and a name.
static const int32_t HOP_O_PATH = 010000000;

/// Opens an absolute path, of which no component may be a symbolic link, with openat2(2). Adds close-on-exec and
/// non-blocking. Returns a descriptor, or -1 with errno set: ENOSYS or EPERM if the kernel or a seccomp filter does not
/// allow the call.
int hop_open_without_links(const char *path, uint64_t flags, uint32_t mode);

/// Reads the attributes of an open descriptor. `force` bypasses the cache of a network file system and asks its server
/// (statx(2) with AT_STATX_FORCE_SYNC). Returns 0, or -1 with errno set.
int hop_status(int descriptor, int force, hop_file_status *status);

/// Reads the attributes of a name in an open folder. A symbolic link is not followed. Returns 0, or -1 with errno set.
int hop_status_at(int folder, const char *name, hop_file_status *status);

/// Reads the next names of an open folder into the buffer with getdents64(2). Returns the number of bytes that they
/// take, 0 at the end, or -1 with errno set. (readdir(3) would allocate 32 KiB for each folder.)
int64_t hop_read_names(int folder, void *buffer, size_t size);

/// One entry in the buffer that hop_read_names filled.
typedef struct {
    const void *name;
    /// The length of the name in bytes.
    uint32_t size;
    /// The distance to the next entry in bytes.
    uint32_t length;
} hop_folder_entry;

/// Decodes the entry at `entry`.
hop_folder_entry hop_name(const void *entry);

/// The attributes of a mounted file system (statfs(2)).
typedef struct {
    /// The magic number of the file system's type.
    int64_t type;
    uint64_t block_size;
    uint64_t blocks;
    /// Blocks that an unprivileged process may still use.
    uint64_t available;
    /// Zero if the file system does not count inodes.
    uint64_t inodes;
    uint64_t free_inodes;
    int32_t read_only;
} hop_volume_facts;

/// Reads the attributes of the file system that holds `path`. Returns 0, or -1 with errno set.
int hop_volume(const char *path, hop_volume_facts *facts);

#endif
