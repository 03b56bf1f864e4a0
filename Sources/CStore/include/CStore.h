// What the store asks of Linux that Swift's Glibc module does not offer.
#ifndef HOPGATE_CSTORE_H
#define HOPGATE_CSTORE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// The facts of a file or folder that the store judges.
typedef struct {
    uint64_t inode;
    uint64_t device;
    uint64_t size;
    uint64_t links;
    uint32_t mode;
    uint32_t owner;
    uint32_t group;
} hop_file_status;

/// O_PATH: a descriptor that only names a place, for the calls that take a folder and a name.
static const int32_t HOP_O_PATH = 010000000;

/// openat2(2) of an absolute path of which no component may be a symbolic link. Close-on-exec and non-blocking are
/// added. Returns a descriptor, or -1 with errno set: ENOSYS or EPERM where the kernel or its filter lacks the call.
int hop_open_without_links(const char *path, uint64_t flags, uint32_t mode);

/// statx(2) of an open descriptor. `force` asks the server of a network file system instead of its cached answer
/// (AT_STATX_FORCE_SYNC). Returns 0, or -1 with errno set.
int hop_status(int descriptor, int force, hop_file_status *status);

/// The same for a name in an open folder; a symbolic link is not followed.
int hop_status_at(int folder, const char *name, hop_file_status *status);

/// getdents64(2): the next names of an open folder into the buffer. Returns how many bytes they take, 0 at the end, or
/// -1 with errno set. (readdir(3) would allocate 32 KiB for each folder.)
int64_t hop_read_names(int folder, void *buffer, size_t size);

/// One name in what hop_read_names gave.
typedef struct {
    const void *name;
    /// Bytes of the name.
    uint32_t size;
    /// Bytes to the next entry.
    uint32_t length;
} hop_folder_entry;

hop_folder_entry hop_name(const void *entry);

/// The facts of a mounted file system (statfs).
typedef struct {
    /// The magic number of its kind.
    int64_t type;
    uint64_t block_size;
    uint64_t blocks;
    /// Blocks that an unprivileged process may still use.
    uint64_t available;
    /// Zero where the file system does not count them.
    uint64_t inodes;
    uint64_t free_inodes;
    int32_t read_only;
} hop_volume_facts;

/// Returns 0, or -1 with errno set.
int hop_volume(const char *path, hop_volume_facts *facts);

#endif
