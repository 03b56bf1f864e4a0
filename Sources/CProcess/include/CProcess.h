// The calls for starting a program that Swift's Glibc module does not offer.
#ifndef HOPGATE_CPROCESS_H
#define HOPGATE_CPROCESS_H

#include <spawn.h>

/// Creates a pipe with pipe2(2). Both ends are close-on-exec from the start, so that a program that another thread
/// starts cannot inherit them. Returns 0, or -1 with errno set.
int hop_pipe(int ends[2]);

/// Adds an action that closes every descriptor from `first` on in the new process. Returns 0 or an errno.
int hop_close_from(posix_spawn_file_actions_t *actions, int first);

#endif
