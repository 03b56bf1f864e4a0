#ifndef HOP_COPENSSL_H
#define HOP_COPENSSL_H

// The part of OpenSSL that the DTLS target needs. No OpenSSL header and none of its names leave this module, so that a
// file which also sees BoringSSL (NIOSSL) never meets two definitions of one type.
//
// Every function works on the calling thread only. A context may be shared by threads once it is set up; a session
// belongs to one thread.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// An SSL_CTX and the data that our callbacks need beside it.
typedef struct hop_context hop_context;
/// An SSL, its datagram BIO, and the queue of handshake datagrams.
typedef struct hop_session hop_session;

// MARK: Bounds

enum {
    /// The most plaintext bytes of a record, and so the smallest buffer for hop_session_read.
    HOP_MAX_PLAINTEXT = 16384,
    /// The header, nonce and tag of an AES-GCM record; ChaCha20-Poly1305 needs less.
    HOP_MAX_RECORD_OVERHEAD = 37,
    /// The most bytes of handshake datagrams that wait for the network. Datagrams that do not fit are lost like any
    /// datagram and sent again.
    HOP_MAX_QUEUED_BYTES = 65536,
    /// The most bytes of a server's certificate chain. It must fit the queue as one flight with room for the rest of
    /// it.
    HOP_MAX_CHAIN_BYTES = 32768,
    /// The most address bytes that enter a cookie (a sockaddr_in6 has 28).
    HOP_MAX_PEER_BYTES = 64,
    HOP_COOKIE_KEY_BYTES = 32,
    HOP_RANDOM_BYTES = 32,
    HOP_DIGEST_BYTES = 32,
};

// MARK: Errors

/// Removes the oldest entry of this thread's error queue and returns its text, and its `reason` if it comes from the
/// SSL library (else 0). Returns false when the queue is empty.
bool hop_error_next(char *text, size_t capacity, int *reason);

enum {
    /// The `reason` of an alert that the peer sent is this value plus the alert's number.
    HOP_REASON_ALERT_BASE = 1000,
};
/// Whether a reason belongs to one of the groups that have a code in Swift (ssl.h: SSL_R_…).
bool hop_reason_is_no_common_parameters(int reason);
bool hop_reason_is_no_application_protocol(int reason);

// MARK: Randomness and addresses

/// Fills `out` with random bytes. Returns false when the generator failed: the bytes must not be used then.
bool hop_random(void *out, size_t count);
bool hop_is_ip_address(const char *text);

// MARK: Memory

/// The memory that OpenSSL and this module hold now, and the number of their allocations.
typedef struct hop_memory {
    size_t live_blocks;
    size_t live_bytes;
    size_t allocations;
} hop_memory;
/// Starts counting, for tests and diagnosis. Returns false unless it is the first call of this process to OpenSSL.
bool hop_memory_start_counting(void);
hop_memory hop_memory_count(void);

/// Keeps OpenSSL from freeing its locks when the process ends, because other threads may still use them then. The first
/// call of a process to OpenSSL.
void hop_keep_at_exit(void);

// MARK: Contexts

/// Creates a context: ECDHE with AEAD only, DTLS 1.2 only, no tickets, no renegotiation. A client verifies its peer.
/// NULL on failure.
hop_context *hop_context_new(bool server);
void hop_context_free(hop_context *context);
/// Sets the application protocols. `protocols` is in wire form: each name after its length byte; at most 255 bytes in
/// all.
bool hop_context_set_alpn(hop_context *context, const uint8_t *protocols, size_t count);
/// Sets the certificate chain: the leaf first, then the intermediates.
bool hop_context_use_chain(hop_context *context, const uint8_t *pem, size_t count);
/// Sets the private key. Returns false also when the key does not belong to the chain's leaf. An encrypted key is
/// refused; no password is ever asked for.
bool hop_context_use_key(hop_context *context, const uint8_t *pem, size_t count);
bool hop_context_trust_system(hop_context *context);
/// Trusts the certificates of a PEM text. Returns false also when it contains no certificate.
bool hop_context_trust_pem(hop_context *context, const uint8_t *pem, size_t count);
bool hop_context_trust_file(hop_context *context, const char *path);
/// Makes a server require a certificate of its client that ends in one of the trusted ones.
void hop_context_require_client(hop_context *context);
/// Trusts a pin: the SHA-256 of the leaf or of its public key (SubjectPublicKeyInfo), or of a certificate authority in
/// the peer's chain.
bool hop_context_trust_pin(hop_context *context, const uint8_t *digest);

// MARK: Sessions

typedef enum hop_result {
    /// The step is complete: handshake done, bytes read, cookie accepted.
    HOP_DONE = 0,
    /// The session has to wait for the next datagram or timeout.
    HOP_WANT = 1,
    /// The peer sent close_notify.
    HOP_CLOSED = 2,
    /// A fatal failure; the reasons are in the error queue.
    HOP_FAILED = 3,
} hop_result;

/// Creates a session. `mtu` is the largest UDP payload of a handshake datagram, 256 … 4096. NULL on failure.
hop_session *hop_session_new(hop_context *context, bool server, size_t mtu);
void hop_session_free(hop_session *session);

/// Client: sets the name or address that the certificate must contain. A name is also sent as SNI.
bool hop_session_set_server_name(hop_session *session, const char *name);

/// Server: called with the SNI name (NULL if there is none) while the hello is read. It may call
/// hop_session_use_context.
typedef void (*hop_selector)(void *owner, hop_session *session, const char *name);
void hop_session_set_selector(hop_session *session, hop_selector selector, void *owner);
/// Uses the certificate and key of another context for this session.
void hop_session_use_context(hop_session *session, hop_context *context);

/// Server: checks the cookie of one ClientHello. HOP_DONE: the address is proved; continue with hop_session_handshake
/// and no datagram. HOP_WANT: the answer, if there is one, is in the queue, and no state is kept. `keys` is the current
/// key followed by the previous one.
hop_result hop_session_listen(
    hop_session *session, const void *datagram, size_t count, const void *peer, size_t peer_count, const uint8_t *keys);

/// Continues the handshake, with a datagram or without one (count 0).
hop_result hop_session_handshake(hop_session *session, const void *datagram, size_t count);
/// After the handshake: opens the datagram's first record that contains bytes for us. HOP_DONE: hop_session_read
/// returns some.
hop_result hop_session_receive(hop_session *session, const void *datagram, size_t count);
/// Reads the plaintext of one record. `capacity` is at least HOP_MAX_PLAINTEXT.
hop_result hop_session_read(hop_session *session, void *out, size_t capacity, size_t *count);
/// Whether the last datagram may have more records. Does not know of records kept during the handshake.
bool hop_session_has_pending(hop_session *session);
/// Seals one record directly into `out`, which must have HOP_MAX_RECORD_OVERHEAD bytes more than the plaintext.
hop_result hop_session_seal(
    hop_session *session, const void *plaintext, size_t count, void *out, size_t capacity, size_t *written);
/// Removes and copies the next queued datagram. Returns its size, or 0 if there is none. A datagram that does not fit
/// `capacity` is dropped.
size_t hop_session_next_datagram(hop_session *session, void *out, size_t capacity);
/// The bytes of all queued datagrams.
size_t hop_session_queued_bytes(const hop_session *session);
void hop_session_discard_queue(hop_session *session);
/// Sends the last flight again, exactly once, if its timer is armed.
hop_result hop_session_retransmit(hop_session *session);
void hop_session_shutdown(hop_session *session);
/// Frees the record buffers (33 KB). They are allocated again for the next record.
bool hop_session_free_buffers(hop_session *session);

/// How often OpenSSL has armed and stopped its retransmission timer.
uint32_t hop_session_timer_starts(const hop_session *session);
uint32_t hop_session_timer_stops(const hop_session *session);
/// The number of datagrams that found the queue full.
uint32_t hop_session_queue_drops(const hop_session *session);

typedef enum hop_verification {
    HOP_VERIFY_OK = 0,
    HOP_VERIFY_UNKNOWN_AUTHORITY,
    HOP_VERIFY_NAME,
    HOP_VERIFY_EXPIRED,
    HOP_VERIFY_NOT_YET_VALID,
    HOP_VERIFY_PIN,
    HOP_VERIFY_OTHER,
} hop_verification;
/// The result of verifying the peer's chain. `code` is OpenSSL's number, `text` its sentence (static).
hop_verification hop_session_verification(const hop_session *session, long *code, const char **text);

/// The reason for which our own callback refused the peer's hello.
typedef enum hop_refusal {
    HOP_REFUSED_NOT = 0,
    HOP_REFUSED_NO_EXTENDED_MASTER_SECRET,
    HOP_REFUSED_NO_ALPN,
} hop_refusal;
hop_refusal hop_session_refusal(const hop_session *session);

bool hop_session_has_extended_master_secret(hop_session *session);
/// Borrowed from the session; NULL and 0 when no protocol was agreed.
const uint8_t *hop_session_alpn(const hop_session *session, size_t *count);
/// The SNI name that was sent; borrowed from the session.
const char *hop_session_server_name(const hop_session *session);
/// The name of the cipher suite; static.
const char *hop_session_cipher(const hop_session *session);
size_t hop_session_record_overhead(const hop_session *session);
bool hop_session_client_random(const hop_session *session, uint8_t *out);
bool hop_session_peer_leaf_digest(const hop_session *session, uint8_t *out);
/// Copies the URI among the alternative names of the peer's certificate. Returns false if there are none or several, or
/// if it does not fit.
bool hop_session_peer_uri(const hop_session *session, uint8_t *out, size_t capacity, size_t *count);
bool hop_session_export(hop_session *session, const char *label, size_t label_count, uint8_t *out, size_t count);

#endif
