#ifndef HOP_INTERNAL_H
#define HOP_INTERNAL_H

#include "COpenSSL.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/time.h>

struct hop_context {
    SSL_CTX *ssl;
    bool server;
    bool pinned;
    uint8_t pin[HOP_DIGEST_BYTES];
    /// The protocol names in wire form, in order of preference.
    uint8_t alpn[255];
    uint8_t alpn_count;
};

struct hop_session {
    SSL *ssl;
    /// Borrowed: the owner of the session keeps the context alive.
    hop_context *context;

    // The datagram that the next read consumes; borrowed for the length of one call.
    const uint8_t *input;
    size_t input_count;
    // The destination of the next application record instead of the queue; borrowed for the length of one call.
    uint8_t *sink;
    size_t sink_capacity;
    size_t sink_count;
    // Handshake datagrams and alerts, each after a 2-byte length. Freed as soon as it is empty.
    uint8_t *queue;
    size_t queue_capacity;
    size_t queue_head;
    size_t queue_tail;
    uint32_t queue_drops;

    // OpenSSL's own deadline, which is inside the SSL.
    struct timeval *deadline;
    uint32_t timer_starts;
    uint32_t timer_stops;

    // The cookie exchange: set only while hop_session_listen runs.
    const uint8_t *cookie_keys;
    const uint8_t *peer;
    size_t peer_count;
    bool cookie_accepted;

    /// Whether SSL_free_buffers has freed the record buffers and nothing has been read since.
    bool buffers_freed;

    hop_selector selector;
    void *selector_owner;
    hop_refusal refusal;
};

/// Creates a BIO that moves exactly one datagram per call between OpenSSL and `session`. NULL on failure.
BIO *hop_datagram_bio_new(hop_session *session);

// Callbacks that hop_context_new installs. All find their hop_session in the SSL's application data.
int hop_cookie_generate(SSL *ssl, unsigned char *cookie, unsigned int *count);
int hop_cookie_verify(SSL *ssl, const unsigned char *cookie, unsigned int count);
int hop_client_hello(SSL *ssl, int *alert, void *unused);
int hop_server_name(SSL *ssl, int *alert, void *unused);
int hop_select_alpn(
    SSL *ssl, const unsigned char **out, unsigned char *out_count, const unsigned char *in, unsigned int in_count,
    void *unused);

#endif
