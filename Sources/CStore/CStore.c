#define _GNU_SOURCE
#include "CStore.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

_Static_assert(O_PATH == 010000000, "HOP_O_PATH equals the kernel's O_PATH");

int hop_open_without_links(const char *path, uint64_t flags, uint32_t mode) {
    struct open_how how;
    memset(&how, 0, sizeof how);
    how.flags = flags | O_CLOEXEC;
    if (!(flags & O_PATH)) {
        // If the path is a named pipe, opening it must not wait for the other end.
        how.flags |= O_NONBLOCK;
    }
    how.mode = flags & O_CREAT ? mode : 0;
    how.resolve = RESOLVE_NO_SYMLINKS;
    return (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
}

static void fill(const struct statx *from, hop_file_status *to) {
    to->inode = from->stx_ino;
    to->device = makedev(from->stx_dev_major, from->stx_dev_minor);
    to->size = from->stx_size;
    to->links = from->stx_nlink;
    to->mode = from->stx_mode;
    to->owner = from->stx_uid;
    to->group = from->stx_gid;
}

int hop_status(int descriptor, int force, hop_file_status *status) {
    if (force) {
        struct statx found;
        if (statx(descriptor, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &found) != 0) {
            return -1;
        }
        fill(&found, status);
        return 0;
    }
    // fstat(2) is faster than statx(2).
    struct stat found;
    if (fstat(descriptor, &found) != 0) {
        return -1;
    }
    status->inode = found.st_ino;
    status->device = found.st_dev;
    status->size = (uint64_t)found.st_size;
    status->links = found.st_nlink;
    status->mode = found.st_mode;
    status->owner = found.st_uid;
    status->group = found.st_gid;
    return 0;
}

int hop_status_at(int folder, const char *name, hop_file_status *status) {
    struct statx found;
    if (statx(folder, name, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &found) != 0) {
        return -1;
    }
    fill(&found, status);
    return 0;
}

int64_t hop_read_names(int folder, void *buffer, size_t size) {
    return getdents64(folder, buffer, size);
}

hop_folder_entry hop_name(const void *entry) {
    const struct dirent64 *found = entry;
    hop_folder_entry name = {found->d_name, (uint32_t)strlen(found->d_name), found->d_reclen};
    return name;
}

int hop_volume(const char *path, hop_volume_facts *facts) {
    struct statfs found;
    if (statfs(path, &found) != 0) {
        return -1;
    }
    facts->type = (int64_t)(uint32_t)found.f_type;
    facts->block_size = (uint64_t)found.f_bsize;
    facts->blocks = found.f_blocks;
    facts->available = found.f_bavail;
    facts->inodes = found.f_files;
    facts->free_inodes = found.f_ffree;
    facts->read_only = (found.f_flags & ST_RDONLY) != 0;
    return 0;
}
