// A narrow wrapper of libcurl's multi interface. curl's setters are variadic and not type-checked; here one struct
// describes a transfer, and every option that is passed to curl is set in one place, transfer.c. The wrapper has no
// limits of its own: all numbers come from the caller.
#ifndef HOPGATE_CCURL_H
#define HOPGATE_CCURL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// Initialises libcurl for the process. Must have succeeded once before anything else is called; may be called again.
/// Returns false if this libcurl is too old (7.85 is needed), has no TLS, or cannot be initialised.
bool ccurl_prepare(void);

// MARK: URLs

typedef enum {
    CCURL_URL_OK,
    /// Not an absolute URL, or not a reference that can be resolved.
    CCURL_URL_MALFORMED,
    /// The URL contains a user name or a password.
    CCURL_URL_HAS_CREDENTIALS,
} ccurl_url_problem;

/// The parts of a URL as curl parses them, NUL-terminated. The host is a name in lower case or an address in its
/// canonical form (IPv6 in brackets); the port is the scheme's default if the URL has none; the text has no fragment.
typedef struct {
    char *text;
    char *scheme;
    char *host;
    char *port;
    char *path;
} ccurl_url;

/// Parses a URL or, with a base, a reference that is resolved first (RFC 3986 §5). The caller frees the parts with
/// ccurl_url_clear, also after a problem.
ccurl_url_problem ccurl_url_parse(const char *base, const char *text, ccurl_url *url);
void ccurl_url_clear(ccurl_url *url);

// MARK: Transfers

typedef struct {
    const char *url;
    /// The only scheme that is allowed: "https" or "http".
    const char *scheme;
    const char *method;
    /// The field lines, each `Name: value`, without control characters; copied.
    const char *const *fields;
    size_t field_count;
    const char *user_agent;
    /// The body, for POST and other methods that have one; copied.
    const uint8_t *body;
    size_t body_count;
    bool has_body;
    /// The trust anchors: PEM bytes (copied), else a file, else those of the system.
    const uint8_t *authorities;
    size_t authorities_count;
    const char *authorities_file;
    /// Whether the proxies that the environment names (HTTPS_PROXY, ALL_PROXY, NO_PROXY) are used.
    bool uses_proxy;
    /// The time for name resolution, TCP and TLS together, in milliseconds.
    int64_t connect_timeout;
    /// The time for the whole transfer, in milliseconds.
    int64_t total_timeout;
    /// The maximum length of a body that the response announces; a longer one ends the transfer at once. 0: no limit.
    int64_t body_limit;
    /// Whether the request may be sent twice: libcurl repeats it when a kept connection ends before the first byte of
    /// the response. If false, the request uses a new connection, so that it is sent once.
    bool may_repeat;
    /// The idle time after which a kept connection is not used again, in seconds.
    int64_t idle_limit;
} ccurl_request;

/// Receives a header line including its line ending, or bytes of a body. Returns false to stop the transfer.
typedef bool (*ccurl_receiver)(void *owner, const uint8_t *bytes, size_t count);

typedef struct ccurl_transfer ccurl_transfer;

/// Creates a transfer. Both receivers are called by ccurl_multi_perform only. Returns NULL if memory is exhausted or
/// libcurl refused an option.
ccurl_transfer *ccurl_transfer_create(
    const ccurl_request *request, void *owner, ccurl_receiver head, ccurl_receiver body);

/// Frees a transfer, which must have been removed from its multi handle.
void ccurl_transfer_destroy(ccurl_transfer *transfer);

// MARK: Results

typedef enum {
    CCURL_DONE,
    /// A receiver returned false.
    CCURL_STOPPED,
    CCURL_NO_NAME,
    CCURL_PROXY,
    CCURL_NO_CONNECTION,
    CCURL_TLS,
    /// The server's certificate was refused; `certificate` holds the reason.
    CCURL_CERTIFICATE,
    /// The trust anchors cannot be read.
    CCURL_AUTHORITIES,
    CCURL_TIMEOUT,
    /// The announced body is longer than the limit.
    CCURL_TOO_LARGE,
    /// One line of the head is longer than libcurl accepts (100 KiB).
    CCURL_HEAD_TOO_LARGE,
    /// The peer's data is not valid HTTP.
    CCURL_MALFORMED,
    /// The connection ended before the response was complete.
    CCURL_CUT,
    CCURL_FAILED,
} ccurl_outcome;

typedef enum {
    CCURL_CERTIFICATE_OTHER,
    CCURL_CERTIFICATE_UNTRUSTED,
    CCURL_CERTIFICATE_EXPIRED,
    CCURL_CERTIFICATE_NOT_YET_VALID,
    CCURL_CERTIFICATE_WRONG_NAME,
} ccurl_certificate;

/// The phase that a transfer reached.
typedef enum {
    CCURL_PHASE_LOOKUP,
    CCURL_PHASE_CONNECT,
    CCURL_PHASE_TLS,
    /// The connection is established: the request may have been sent.
    CCURL_PHASE_EXCHANGE,
} ccurl_phase;

typedef struct {
    ccurl_outcome outcome;
    ccurl_phase phase;
    ccurl_certificate certificate;
    /// The status of the proxy's response to CONNECT, or 0 if there was none.
    int32_t proxy_status;
    /// libcurl's own message, NUL-terminated, possibly empty.
    char message[256];
} ccurl_result;

// MARK: Multi

/// A multi handle, which runs many transfers on one thread. Only ccurl_multi_wakeup may be called from another thread.
typedef struct ccurl_multi ccurl_multi;

/// Creates a multi handle. `connections` is the maximum number of open connections, used and kept ones together.
ccurl_multi *ccurl_multi_create(int32_t connections);
/// Frees the multi handle, which must have no transfers, and closes its connections.
void ccurl_multi_destroy(ccurl_multi *multi);

bool ccurl_multi_add(ccurl_multi *multi, ccurl_transfer *transfer);
/// Stops a transfer in any phase, without delay, and removes it.
void ccurl_multi_remove(ccurl_multi *multi, ccurl_transfer *transfer);
/// Does all work that is possible without waiting. Returns false if the multi handle is unusable.
bool ccurl_multi_perform(ccurl_multi *multi);
/// Waits until a socket is ready, one of curl's timers is due, ccurl_multi_wakeup is called, or the time has passed.
/// Returns false if the multi handle is unusable.
bool ccurl_multi_poll(ccurl_multi *multi, int32_t milliseconds);
void ccurl_multi_wakeup(ccurl_multi *multi);
/// Removes the next transfer that has ended, fills in its result and returns its owner. Returns NULL if there is none.
void *ccurl_multi_next(ccurl_multi *multi, ccurl_result *result);

#endif
