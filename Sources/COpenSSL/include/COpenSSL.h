#ifndef HOP_COPENSSL_H
#define HOP_COPENSSL_H

// What the DTLS target needs of OpenSSL, and nothing else of it: no OpenSSL header and none of its names leave this
// module, so that a file which also sees BoringSSL (NIOSSL) never meets two definitions of one type.
//
// Every function works on the calling thread only. A context may be shared by threads once it is set up; a session
// belongs to one thread.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// An SSL_CTX and what our callbacks need beside it.
typedef struct hop_context hop_context;
/// An SSL, its datagram BIO, and the queue of handshake datagrams.
typedef struct hop_session hop_session;

// MARK: Bounds

enum {
    /// A record's plaintext, and so the smallest buffer that hop_session_read takes.
    HOP_MAX_PLAINTEXT = 16384,
    /// Header, nonce and tag of an AES-GCM record; ChaCha20-Poly1305 needs less.
    HOP_MAX_RECORD_OVERHEAD = 37,
    /// Handshake datagrams waiting for the network. What does not fit is lost like any datagram and sent again.
    HOP_MAX_QUEUED_BYTES = 65536,
    /// A server's chain must fit the queue as one flight with room for the rest of it.
    HOP_MAX_CHAIN_BYTES = 32768,
    /// The address bytes that enter a cookie (a sockaddr_in6 has 28).
    HOP_MAX_PEER_BYTES = 64,
    HOP_COOKIE_KEY_BYTES = 32,
    HOP_RANDOM_BYTES = 32,
    HOP_DIGEST_BYTES = 32,
};

// MARK: Errors

/// The oldest entry of this thread's error queue: its text, and `reason` when it comes from the SSL library (else 0).
/// False when the queue is empty.
bool hop_error_next(char *text, size_t capacity, int *reason);

enum {
    /// `reason` of an alert that the peer sent is this plus the alert's number.
    HOP_REASON_ALERT_BASE = 1000,
};
/// The reasons that get a code of their own (ssl.h: SSL_R_…).
bool hop_reason_is_no_common_parameters(int reason);
bool hop_reason_is_no_application_protocol(int reason);

// MARK: Randomness and addresses

/// False when the generator failed: nothing may be built on the bytes then.
bool hop_random(void *out, size_t count);
bool hop_is_ip_address(const char *text);

// MARK: Memory

/// What OpenSSL and this module hold now, and how often they allocated.
typedef struct hop_memory {
    size_t live_blocks;
    size_t live_bytes;
    size_t allocations;
} hop_memory;
/// For tests and diagnosis. False unless it is the first thing that this process does with OpenSSL.
bool hop_memory_start_counting(void);
hop_memory hop_memory_count(void);

// MARK: Contexts

/// ECDHE with AEAD only, DTLS 1.2 only, no tickets, no renegotiation. A client verifies its peer. NULL on failure.
hop_context *hop_context_new(bool server);
void hop_context_free(hop_context *context);
/// `protocols` is in wire form: each name after its length byte; at most 255 bytes in all.
bool hop_context_set_alpn(hop_context *context, const uint8_t *protocols, size_t count);
/// The leaf comes first, then the intermediates.
bool hop_context_use_chain(hop_context *context, const uint8_t *pem, size_t count);
/// False as well when the key does not belong to the chain's leaf. An encrypted key is refused, never asked for.
bool hop_context_use_key(hop_context *context, const uint8_t *pem, size_t count);
bool hop_context_trust_system(hop_context *context);
/// False when there is not one certificate in it.
bool hop_context_trust_pem(hop_context *context, const uint8_t *pem, size_t count);
bool hop_context_trust_file(hop_context *context, const char *path);
/// SHA-256 of the leaf or of its public key (SubjectPublicKeyInfo), or of a certificate authority in the peer's chain.
bool hop_context_trust_pin(hop_context *context, const uint8_t *digest);

// MARK: Sessions

typedef enum hop_result {
    /// The step is complete: handshake done, bytes read, cookie accepted.
    HOP_DONE = 0,
    /// Nothing more to do until the next datagram or timeout.
    HOP_WANT = 1,
    /// The peer said close_notify.
    HOP_CLOSED = 2,
    /// Fatal; the reasons are in the error queue.
    HOP_FAILED = 3,
} hop_result;

/// `mtu`: the largest UDP payload of a handshake datagram, 256 … 4096. NULL on failure.
hop_session *hop_session_new(hop_context *context, bool server, size_t mtu);
void hop_session_free(hop_session *session);

/// Client: the name or address that the certificate must carry. A name is also sent as SNI.
bool hop_session_set_server_name(hop_session *session, const char *name);

/// Server: called with the SNI name (NULL: none) while the hello is read; it may call hop_session_use_context.
typedef void (*hop_selector)(void *owner, hop_session *session, const char *name);
void hop_session_set_selector(hop_session *session, hop_selector selector, void *owner);
/// Takes certificate and key of another context for this session.
void hop_session_use_context(hop_session *session, hop_context *context);

/// Server: one ClientHello against the cookie. HOP_DONE: the address is proved, go on with hop_session_handshake and no
/// datagram. HOP_WANT: the answer, if there is one, is in the queue, and nothing is remembered.
/// `keys`: the current key, then the previous one.
hop_result hop_session_listen(
    hop_session *session, const void *datagram, size_t count, const void *peer, size_t peer_count, const uint8_t *keys);

/// Goes on with the handshake, with a datagram or without (count 0).
hop_result hop_session_handshake(hop_session *session, const void *datagram, size_t count);
/// After the handshake: opens the datagram's first record that holds bytes for us. HOP_DONE: hop_session_read has some.
hop_result hop_session_receive(hop_session *session, const void *datagram, size_t count);
/// The plaintext of one record. `capacity` is at least HOP_MAX_PLAINTEXT.
hop_result hop_session_read(hop_session *session, void *out, size_t capacity, size_t *count);
/// False only when nothing is left of the last datagram; does not know of records kept during the handshake.
bool hop_session_has_pending(hop_session *session);
/// Seals one record straight into `out`, which must have HOP_MAX_RECORD_OVERHEAD bytes more than the plaintext.
hop_result hop_session_seal(
    hop_session *session, const void *plaintext, size_t count, void *out, size_t capacity, size_t *written);
/// The next queued datagram; 0: none. One that does not fit `capacity` is left out.
size_t hop_session_next_datagram(hop_session *session, void *out, size_t capacity);
/// Bytes of all queued datagrams.
size_t hop_session_queued_bytes(const hop_session *session);
void hop_session_discard_queue(hop_session *session);
/// Sends the last flight again, exactly once, if its timer is armed.
hop_result hop_session_retransmit(hop_session *session);
void hop_session_shutdown(hop_session *session);
/// Gives the record buffers back (33 KB); they come again with the next record.
bool hop_session_free_buffers(hop_session *session);

/// How often OpenSSL armed and stopped its retransmission timer so far.
uint32_t hop_session_timer_starts(const hop_session *session);
uint32_t hop_session_timer_stops(const hop_session *session);
/// Datagrams that found the queue full.
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
/// What verification of the peer's chain said; `code` is OpenSSL's number, `text` its sentence (static).
hop_verification hop_session_verification(const hop_session *session, long *code, const char **text);

/// Why our own callback refused the peer's hello.
typedef enum hop_refusal {
    HOP_REFUSED_NOT = 0,
    HOP_REFUSED_NO_EXTENDED_MASTER_SECRET,
    HOP_REFUSED_NO_ALPN,
} hop_refusal;
hop_refusal hop_session_refusal(const hop_session *session);

bool hop_session_has_extended_master_secret(hop_session *session);
/// Borrowed from the session; NULL and 0 when none was agreed.
const uint8_t *hop_session_alpn(const hop_session *session, size_t *count);
/// Borrowed from the session: a server's view is the SNI it was sent.
const char *hop_session_server_name(const hop_session *session);
/// Borrowed, static.
const char *hop_session_cipher(const hop_session *session);
size_t hop_session_record_overhead(const hop_session *session);
bool hop_session_client_random(const hop_session *session, uint8_t *out);
bool hop_session_peer_leaf_digest(const hop_session *session, uint8_t *out);
bool hop_session_export(hop_session *session, const char *label, size_t label_count, uint8_t *out, size_t count);

#endif
