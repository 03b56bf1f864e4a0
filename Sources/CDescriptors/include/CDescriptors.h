// Standard input, output and error of a process that was started without one of them.
#ifndef HOPGATE_CDESCRIPTORS_H
#define HOPGATE_CDESCRIPTORS_H

/// Opens /dev/null on each of the descriptors 0, 1 and 2 that is closed. Otherwise the next file, socket or event
/// descriptor would get that number, and results and log lines would be written into it. It is opened for reading
/// only, so that a command whose result cannot be written still fails.
///
/// Also runs before main(), because the runtime opens event descriptors before it calls main().
void hop_open_standard_descriptors(void);

#endif
