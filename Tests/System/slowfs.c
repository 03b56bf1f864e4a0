// slowfs: shows a folder through a file system (FUSE) whose faults can be switched on and off at run time.
//
//   slowfs FOLDER MOUNTPOINT [CACHE_SECONDS [ABSENT_SECONDS]]
//
// The program forwards every call to FOLDER, and prints "up" when it is mounted. Attributes and names are cached for
// CACHE_SECONDS, as an NFS client does, absent names for ABSENT_SECONDS, the same by default; without it nothing is
// cached. (An NFS client forgets absent names when it learns that their folder has changed; this program does not.)
// Commands are lines on standard input and take effect at once, even for calls that already hang. A fault applies to
// calls at PATH and below (as seen in the mount, from "/"), or to all calls; with "changes" only to those that modify
// the file system, with "contents" only to those that open, read or write a file, so that its name and attributes, and
// all other files of its folder, work: the kernel locks a folder while it looks up a name. A PATH that begins with "*"
// stands for all paths that end with its rest. The first matching fault applies:
//   hang [changes|contents] [PATH]       calls wait, and only a kill ends them, as on a hard NFS mount
//   fail ERROR [changes|contents] [PATH] calls fail with EIO, ESTALE, ENOSPC or EROFS
//   delay MS [changes|contents] [PATH]   calls are delayed
//   heal                        removes all faults; waiting calls continue
//   stats                       prints one line of counters
// At the end of standard input all faults are removed, the file system is unmounted, and the program exits.
#define FUSE_USE_VERSION 312
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { RULES = 16, THREADS = 512 };
enum { CHANGES = 1, CONTENTS = 2 };  // properties of a call; a fault applies to calls with all of its own
enum kind { HANG, FAIL, DELAY };

struct rule {
    enum kind kind;
    int number;  // the errno, or milliseconds
    int only;    // CHANGES, CONTENTS, or 0 for all calls
    char path[512];
};

static int base;  // the folder
static double cache_seconds, absent_seconds;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed;
static struct rule rules[RULES];
static int rule_count;
static long calls, hung, hung_now, failed, delayed, killed;

// ---- faults

static int is_below(const char *path, const char *folder) {
    size_t length = strlen(folder);
    if (*folder == '*') return strlen(path) >= length && strcmp(path + strlen(path) - (length - 1), folder + 1) == 0;
    return length == 0 || (strncmp(path, folder, length) == 0 && (path[length] == 0 || path[length] == '/'));
}

static const struct rule *rule_for(const char *path, const char *other, int properties) {
    for (int i = 0; i < rule_count; i++) {
        if (rules[i].only & ~properties) continue;
        if (is_below(path, rules[i].path) || (other && is_below(other, rules[i].path))) return &rules[i];
    }
    return NULL;
}

// Whether the calling thread is being killed. A signal that it may handle does not end a wait.
static int is_killed(pid_t thread) {
    char name[64], line[256];
    unsigned long long pending = 0;
    snprintf(name, sizeof name, "/proc/%d/status", thread);
    FILE *file = fopen(name, "re");
    if (!file) return 1;
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "SigPnd: %llx", &pending) == 1) break;
    fclose(file);
    return (pending >> (SIGKILL - 1)) & 1;
}

static struct timespec in_milliseconds(int ms) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_nsec += (ms % 1000) * 1000000L;
    t.tv_sec += ms / 1000 + t.tv_nsec / 1000000000L;
    t.tv_nsec %= 1000000000L;
    return t;
}

// Applies the faults to a call, before it is forwarded. Returns 0, or the negative errno to fail with.
static int gate2(const char *path, const char *other, int properties) {
    int answer = 0, was_hung = 0;
    pid_t thread = fuse_get_context()->pid;
    if (!path) path = "";
    pthread_mutex_lock(&lock);
    calls++;
    for (;;) {
        const struct rule *rule = rule_for(path, other, properties);
        if (!rule || rule->kind != HANG) {
            if (rule && rule->kind == FAIL) {
                failed++;
                answer = -rule->number;
            } else if (rule) {
                struct timespec due = in_milliseconds(rule->number);
                delayed++;
                while (pthread_cond_timedwait(&changed, &lock, &due) != ETIMEDOUT)
                    if (rule_for(path, other, properties) != rule) break;
            }
            break;
        }
        if (!was_hung) hung++, hung_now++;
        was_hung = 1;
        struct timespec due = in_milliseconds(20);
        pthread_cond_timedwait(&changed, &lock, &due);
        if (fuse_interrupted() && is_killed(thread)) {
            killed++;
            answer = -EINTR;
            break;
        }
    }
    if (was_hung) hung_now--;
    pthread_mutex_unlock(&lock);
    return answer;
}

static int gate(const char *path, int properties) { return gate2(path, NULL, properties); }

#define PASS(path, properties)                     \
    do {                                           \
        int answer_ = gate(path, properties);      \
        if (answer_ < 0) return answer_;           \
    } while (0)
#define ANSWER(call) ((call) < 0 ? -errno : 0)

// The path relative to the folder; paths in the mount begin with a slash.
static const char *real(const char *path) { return path[1] ? path + 1 : "."; }

// ---- calls

// Replaces the function of the C library for libfuse. Its version 3.14 never allows the kernel to look up names of one
// folder in parallel, so that all of them wait for one that is slow. This allows it in the reply to INIT, which is the
// first: a header, and then the version (7) and, as the fourth number, the flags.
ssize_t writev(int file, const struct iovec *parts, int count) {
    static int is_later;
    uint32_t *reply = count > 1 && parts[1].iov_len >= 16 ? parts[1].iov_base : NULL;
    if (!is_later && reply && reply[0] == 7) {
        is_later = 1;
        reply[3] |= FUSE_CAP_PARALLEL_DIROPS;
    }
    return syscall(SYS_writev, file, parts, count);
}

static void *fs_init(struct fuse_conn_info *connection, struct fuse_config *config) {
    (void)connection;
    config->use_ino = 1;
    config->hard_remove = 1;
    config->entry_timeout = config->attr_timeout = cache_seconds;
    config->negative_timeout = absent_seconds;
    return NULL;
}

static int fs_getattr(const char *path, struct stat *found, struct fuse_file_info *file) {
    PASS(path, 0);
    return ANSWER(file ? fstat(file->fh, found) : fstatat(base, real(path), found, AT_SYMLINK_NOFOLLOW));
}

static int fs_readlink(const char *path, char *target, size_t size) {
    PASS(path, 0);
    ssize_t length = readlinkat(base, real(path), target, size - 1);
    if (length < 0) return -errno;
    target[length] = 0;
    return 0;
}

static int fs_readdir(const char *path, void *buffer, fuse_fill_dir_t fill, off_t offset, struct fuse_file_info *file,
                      enum fuse_readdir_flags flags) {
    (void)offset, (void)file, (void)flags;
    PASS(path, 0);
    int folder = openat(base, real(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = folder < 0 ? NULL : fdopendir(folder);
    if (!stream) return -errno;
    for (struct dirent *entry; (entry = readdir(stream));) {
        struct stat found = {.st_ino = entry->d_ino, .st_mode = (mode_t)entry->d_type << 12};
        if (fill(buffer, entry->d_name, &found, 0, 0)) break;
    }
    closedir(stream);
    return 0;
}

static int opened(int number, struct fuse_file_info *file) {
    if (number < 0) return -errno;
    file->fh = number;
    file->direct_io = cache_seconds == 0;
    return 0;
}

static int fs_open(const char *path, struct fuse_file_info *file) {
    PASS(path, CONTENTS | ((file->flags & O_ACCMODE) != O_RDONLY ? CHANGES : 0));
    return opened(openat(base, real(path), file->flags | O_CLOEXEC), file);
}

static int fs_create(const char *path, mode_t mode, struct fuse_file_info *file) {
    PASS(path, CHANGES | CONTENTS);
    return opened(openat(base, real(path), file->flags | O_CREAT | O_CLOEXEC, mode), file);
}

static int fs_release(const char *path, struct fuse_file_info *file) {
    (void)path;
    close(file->fh);
    return 0;
}

static int fs_read(const char *path, char *bytes, size_t size, off_t offset, struct fuse_file_info *file) {
    PASS(path, CONTENTS);
    ssize_t count = pread(file->fh, bytes, size, offset);
    return count < 0 ? -errno : (int)count;
}

static int fs_write(const char *path, const char *bytes, size_t size, off_t offset, struct fuse_file_info *file) {
    PASS(path, CHANGES | CONTENTS);
    ssize_t count = pwrite(file->fh, bytes, size, offset);
    return count < 0 ? -errno : (int)count;
}

static int fs_truncate(const char *path, off_t size, struct fuse_file_info *file) {
    PASS(path, CHANGES | CONTENTS);
    if (file) return ANSWER(ftruncate(file->fh, size));
    int number = openat(base, real(path), O_WRONLY | O_CLOEXEC);
    if (number < 0) return -errno;
    int answer = ANSWER(ftruncate(number, size));
    close(number);
    return answer;
}

static int fs_fallocate(const char *path, int mode, off_t offset, off_t size, struct fuse_file_info *file) {
    PASS(path, CHANGES | CONTENTS);
    return ANSWER(fallocate(file->fh, mode, offset, size));
}

static int fs_fsync(const char *path, int only_data, struct fuse_file_info *file) {
    PASS(path, CHANGES | CONTENTS);
    return ANSWER(only_data ? fdatasync(file->fh) : fsync(file->fh));
}

static int fs_fsyncdir(const char *path, int only_data, struct fuse_file_info *file) {
    (void)only_data, (void)file;
    PASS(path, CHANGES);
    int folder = openat(base, real(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) return -errno;
    int answer = ANSWER(fsync(folder));
    close(folder);
    return answer;
}

static int fs_mkdir(const char *path, mode_t mode) {
    PASS(path, CHANGES);
    return ANSWER(mkdirat(base, real(path), mode));
}

static int fs_mknod(const char *path, mode_t mode, dev_t device) {
    PASS(path, CHANGES);
    return ANSWER(mknodat(base, real(path), mode, device));
}

static int fs_unlink(const char *path) {
    PASS(path, CHANGES);
    return ANSWER(unlinkat(base, real(path), 0));
}

static int fs_rmdir(const char *path) {
    PASS(path, CHANGES);
    return ANSWER(unlinkat(base, real(path), AT_REMOVEDIR));
}

static int fs_symlink(const char *target, const char *path) {
    PASS(path, CHANGES);
    return ANSWER(symlinkat(target, base, real(path)));
}

static int fs_rename(const char *path, const char *target, unsigned flags) {
    int answer = gate2(path, target, CHANGES);
    return answer < 0 ? answer : ANSWER(renameat2(base, real(path), base, real(target), flags));
}

static int fs_link(const char *path, const char *target) {
    int answer = gate2(path, target, CHANGES);
    return answer < 0 ? answer : ANSWER(linkat(base, real(path), base, real(target), 0));
}

static int fs_chmod(const char *path, mode_t mode, struct fuse_file_info *file) {
    PASS(path, CHANGES);
    return ANSWER(file ? fchmod(file->fh, mode) : fchmodat(base, real(path), mode, 0));
}

static int fs_chown(const char *path, uid_t owner, gid_t group, struct fuse_file_info *file) {
    (void)file;
    PASS(path, CHANGES);
    return ANSWER(fchownat(base, real(path), owner, group, AT_SYMLINK_NOFOLLOW));
}

static int fs_utimens(const char *path, const struct timespec times[2], struct fuse_file_info *file) {
    (void)file;
    PASS(path, CHANGES);
    return ANSWER(utimensat(base, real(path), times, AT_SYMLINK_NOFOLLOW));
}

static int fs_statfs(const char *path, struct statvfs *found) {
    PASS(path, 0);
    return ANSWER(fstatvfs(base, found));
}

static const struct fuse_operations operations = {
    .init = fs_init,
    .getattr = fs_getattr,
    .readlink = fs_readlink,
    .readdir = fs_readdir,
    .open = fs_open,
    .create = fs_create,
    .release = fs_release,
    .read = fs_read,
    .write = fs_write,
    .truncate = fs_truncate,
    .fallocate = fs_fallocate,
    .fsync = fs_fsync,
    .fsyncdir = fs_fsyncdir,
    .mkdir = fs_mkdir,
    .mknod = fs_mknod,
    .unlink = fs_unlink,
    .rmdir = fs_rmdir,
    .symlink = fs_symlink,
    .rename = fs_rename,
    .link = fs_link,
    .chmod = fs_chmod,
    .chown = fs_chown,
    .utimens = fs_utimens,
    .statfs = fs_statfs,
};

// ---- commands

static int errno_of(const char *name) {
    static const struct {
        const char *name;
        int number;
    } known[] = {{"EIO", EIO}, {"ESTALE", ESTALE}, {"ENOSPC", ENOSPC}, {"EROFS", EROFS}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(name, known[i].name) == 0) return known[i].number;
    return 0;
}

// Executes a command. Returns whether it was valid.
static int command(char *line) {
    char *rest = NULL, *word = strtok_r(line, " \n", &rest);
    struct rule rule = {0};
    if (!word) return 0;
    if (strcmp(word, "heal") == 0) {
        rule_count = 0;
        return 1;
    }
    if (strcmp(word, "hang") == 0) {
        rule.kind = HANG;
    } else if (strcmp(word, "fail") == 0 || strcmp(word, "delay") == 0) {
        char *number = strtok_r(NULL, " \n", &rest);
        rule.kind = word[0] == 'f' ? FAIL : DELAY;
        rule.number = !number ? 0 : rule.kind == FAIL ? errno_of(number) : atoi(number);
        if (rule.number <= 0) return 0;
    } else {
        return 0;
    }
    word = strtok_r(NULL, " \n", &rest);
    if (word && (strcmp(word, "changes") == 0 || strcmp(word, "contents") == 0)) {
        rule.only = strcmp(word, "changes") == 0 ? CHANGES : CONTENTS;
        word = strtok_r(NULL, " \n", &rest);
    }
    if (word) snprintf(rule.path, sizeof rule.path, "%s", strcmp(word, "/") == 0 ? "" : word);
    if (rule_count == RULES) return 0;
    rules[rule_count++] = rule;
    return 1;
}

static struct fuse *session;
static const char *mountpoint;

static void *obey(void *unused) {
    (void)unused;
    char line[1024];
    while (fgets(line, sizeof line, stdin)) {
        pthread_mutex_lock(&lock);
        if (strncmp(line, "stats", 5) == 0)
            printf("calls %ld hung %ld hung_now %ld failed %ld delayed %ld killed %ld\n", calls, hung, hung_now,
                   failed, delayed, killed);
        else
            puts(command(line) ? "ok" : "what?");
        fflush(stdout);
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
    }
    pthread_mutex_lock(&lock);
    rule_count = 0;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    // Open files keep the detached mount alive; the end of this process ends it.
    umount2(mountpoint, MNT_DETACH);
    struct timespec moment = {.tv_nsec = 300000000};
    nanosleep(&moment, NULL);
    _exit(0);
}

int main(int count, char **words) {
    if (count < 3) {
        fprintf(stderr, "usage: slowfs FOLDER MOUNTPOINT [CACHE_SECONDS [ABSENT_SECONDS]]\n");
        return 2;
    }
    mountpoint = words[2];
    cache_seconds = count > 3 ? atof(words[3]) : 0;
    absent_seconds = count > 4 ? atof(words[4]) : cache_seconds;
    base = open(words[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (base < 0) {
        perror(words[1]);
        return 1;
    }
    // Signals are ignored: the program must outlive the processes that use the mount, and exits at the end of its
    // input.
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    umask(0);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&changed, &monotonic);

    char *arguments[] = {words[0], "-o", "default_permissions,fsname=slowfs"};
    struct fuse_args args = FUSE_ARGS_INIT(3, arguments);
    session = fuse_new(&args, &operations, sizeof operations, NULL);
    if (!session || fuse_mount(session, mountpoint) != 0) {
        fprintf(stderr, "slowfs: cannot mount at %s; this needs /dev/fuse and the right to mount\n", mountpoint);
        return 1;
    }
    puts("up");
    fflush(stdout);
    pthread_t thread;
    pthread_create(&thread, NULL, obey, NULL);
    struct fuse_loop_config *loop = fuse_loop_cfg_create();
    fuse_loop_cfg_set_max_threads(loop, THREADS);
    fuse_loop_cfg_set_idle_threads(loop, 16);
    fuse_loop_mt(session, loop);
    pthread_join(thread, NULL);
    return 0;
}
