// What starting a program asks of Linux that Swift's Glibc module does not offer.
#ifndef HOPGATE_CPROCESS_H
#define HOPGATE_CPROCESS_H

#include <spawn.h>

/// pipe2(2): both ends are close-on-exec from the start, so that no other thread's program can inherit them. Returns 0,
/// or -1 with errno set.
int hop_pipe(int ends[2]);

/// In the new process every descriptor from `first` on is closed. Returns 0 or an errno.
int hop_close_from(posix_spawn_file_actions_t *actions, int first);

#endif
