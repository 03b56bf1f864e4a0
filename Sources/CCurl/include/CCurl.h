// A narrow view of libcurl's multi interface. curl's setters are variadic and take whatever they are given; here a
// transfer is described by one struct, and every option that curl gets is in one place, transfer.c. Nothing here
// decides a limit: the numbers come from the caller.
#ifndef HOPGATE_CCURL_H
#define HOPGATE_CCURL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// Process-wide preparation; must have succeeded once before anything else is called, and may be called again. False:
/// this libcurl is too old (7.85 is needed), has no TLS, or cannot be initialised.
bool ccurl_prepare(void);

// MARK: URLs

typedef enum {
    CCURL_URL_OK,
    /// Not an absolute URL, or not a reference that can be resolved.
    CCURL_URL_MALFORMED,
    /// It holds a user name or a password.
    CCURL_URL_HAS_CREDENTIALS,
} ccurl_url_problem;

/// The parts of a URL as curl reads them, NUL-terminated. The host is in lower case or an address in its usual form
/// (IPv6 in brackets); the port is the scheme's own when the URL has none; the text has no fragment.
typedef struct {
    char *text;
    char *scheme;
    char *host;
    char *port;
    char *path;
} ccurl_url;

/// Takes a URL apart; with a base, resolves a reference first (RFC 3986 §5). What was filled in is freed by
/// ccurl_url_clear, also after a problem.
ccurl_url_problem ccurl_url_parse(const char *base, const char *text, ccurl_url *url);
void ccurl_url_clear(ccurl_url *url);

// MARK: Transfers

typedef struct {
    const char *url;
    /// The one scheme that is allowed: "https" or "http".
    const char *scheme;
    const char *method;
    /// `Name: value` each, already free of control characters; copied.
    const char *const *fields;
    size_t field_count;
    const char *user_agent;
    /// Sent with POST and other methods that have a body; copied.
    const uint8_t *body;
    size_t body_count;
    bool has_body;
    /// Certificates that are believed: PEM bytes (copied), else a file, else those of the system.
    const uint8_t *authorities;
    size_t authorities_count;
    const char *authorities_file;
    /// The proxies that the environment names (HTTPS_PROXY, ALL_PROXY, NO_PROXY) are used.
    bool uses_proxy;
    /// Name look-up, TCP and TLS together, milliseconds.
    int64_t connect_timeout;
    /// Everything, milliseconds.
    int64_t total_timeout;
    /// An announced body that is longer ends the transfer at once; 0: no limit.
    int64_t body_limit;
    /// libcurl repeats a request when a kept connection ends before the first byte of the answer. False: the request
    /// gets a new connection, so that it is sent once.
    bool may_repeat;
    /// A kept connection is not used again when it was idle for so long, seconds.
    int64_t idle_limit;
} ccurl_request;

/// Takes what arrived: a line of a head with its end, or bytes of a body. False stops the transfer.
typedef bool (*ccurl_receiver)(void *owner, const uint8_t *bytes, size_t count);

typedef struct ccurl_transfer ccurl_transfer;

/// NULL: memory is short, or libcurl refused an option. Both receivers are called by ccurl_multi_perform only.
ccurl_transfer *ccurl_transfer_create(
    const ccurl_request *request, void *owner, ccurl_receiver head, ccurl_receiver body);

/// The transfer must not be in a multi any more.
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
    /// The server's certificate was refused; `certificate` says why.
    CCURL_CERTIFICATE,
    /// The authorities that are to be believed cannot be read.
    CCURL_AUTHORITIES,
    CCURL_TIMEOUT,
    /// The announced body is longer than the limit.
    CCURL_TOO_LARGE,
    /// One line of the head is longer than libcurl takes (100 KiB).
    CCURL_HEAD_TOO_LARGE,
    /// What arrived is no HTTP.
    CCURL_MALFORMED,
    /// The connection ended before the response was whole.
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

/// How far a transfer came.
typedef enum {
    CCURL_PHASE_LOOKUP,
    CCURL_PHASE_CONNECT,
    CCURL_PHASE_TLS,
    /// The connection stands: the request may have been sent.
    CCURL_PHASE_EXCHANGE,
} ccurl_phase;

typedef struct {
    ccurl_outcome outcome;
    ccurl_phase phase;
    ccurl_certificate certificate;
    /// The status of the proxy's answer to CONNECT, 0 without one.
    int32_t proxy_status;
    /// libcurl's own words, NUL-terminated, maybe empty.
    char message[256];
} ccurl_result;

// MARK: Multi

/// Runs many transfers on one thread. Of its functions only ccurl_multi_wakeup may be called from another.
typedef struct ccurl_multi ccurl_multi;

/// `connections` is how many may be open, in use or kept for the next request.
ccurl_multi *ccurl_multi_create(int32_t connections);
/// No transfer may be in it any more; closes its connections.
void ccurl_multi_destroy(ccurl_multi *multi);

bool ccurl_multi_add(ccurl_multi *multi, ccurl_transfer *transfer);
/// Ends a transfer, wherever it is; at once.
void ccurl_multi_remove(ccurl_multi *multi, ccurl_transfer *transfer);
/// Does what can be done without waiting. False: the multi is unusable.
bool ccurl_multi_perform(ccurl_multi *multi);
/// Waits until a socket is ready, a timer of curl's is due, ccurl_multi_wakeup was called, or the time is over. False:
/// the multi is unusable.
bool ccurl_multi_poll(ccurl_multi *multi, int32_t milliseconds);
void ccurl_multi_wakeup(ccurl_multi *multi);
/// The owner of a transfer that has ended, which is then out of the multi; NULL when there is none.
void *ccurl_multi_next(ccurl_multi *multi, ccurl_result *result);

#endif
