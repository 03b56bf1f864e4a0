#include "internal.h"

#include <openssl/crypto.h>
#include <openssl/x509v3.h>
#include <string.h>

// MARK: The retransmission timer is not OpenSSL's

/// OpenSSL compares with the wall clock. Half an hour is longer than any handshake may last, so OpenSSL never finds the
/// timer expired on its own. hop_session_retransmit moves the deadline into the past when our timer has expired.
static unsigned int timer_interval(SSL *ssl, unsigned int previous) {
    (void)ssl, (void)previous;
    return 1800000000u;
}

// MARK: Lifecycle

static bool set_up_pin(hop_session *s) {
    const uint8_t *pin = s->context->pin;
    // Usage 3 is the leaf (its key, or all of it), usage 2 an authority of the presented chain; matching 1 is SHA-256.
    return SSL_dane_enable(s->ssl, NULL) == 1
        && SSL_dane_tlsa_add(s->ssl, 3, 1, 1, pin, HOP_DIGEST_BYTES) == 1
        && SSL_dane_tlsa_add(s->ssl, 3, 0, 1, pin, HOP_DIGEST_BYTES) == 1
        && SSL_dane_tlsa_add(s->ssl, 2, 0, 1, pin, HOP_DIGEST_BYTES) == 1;
}

hop_session *hop_session_new(hop_context *context, bool server, size_t mtu) {
    hop_session *s = OPENSSL_zalloc(sizeof *s);
    if (!s) return NULL;
    s->context = context;
    s->ssl = SSL_new(context->ssl);
    BIO *bio = s->ssl ? hop_datagram_bio_new(s) : NULL;
    if (!bio) {
        hop_session_free(s);
        return NULL;
    }
    SSL_set_bio(s->ssl, bio, bio);
    SSL_set_app_data(s->ssl, s);
    DTLS_set_timer_cb(s->ssl, timer_interval);
    if (server) {
        SSL_set_accept_state(s->ssl);
    } else {
        SSL_set_connect_state(s->ssl);
    }
    if (SSL_set_mtu(s->ssl, (long)mtu) <= 0 || (context->pinned && !set_up_pin(s))) {
        hop_session_free(s);
        return NULL;
    }
    return s;
}

void hop_session_free(hop_session *s) {
    if (!s) return;
    SSL_free(s->ssl);
    OPENSSL_free(s->queue);
    OPENSSL_free(s);
}

bool hop_session_set_server_name(hop_session *s, const char *name) {
    X509_VERIFY_PARAM *parameters = SSL_get0_param(s->ssl);
    X509_VERIFY_PARAM_set_hostflags(
        parameters, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    if (hop_is_ip_address(name)) return X509_VERIFY_PARAM_set1_ip_asc(parameters, name) == 1;
    return X509_VERIFY_PARAM_set1_host(parameters, name, 0) == 1 && SSL_set_tlsext_host_name(s->ssl, name) == 1;
}

void hop_session_set_selector(hop_session *s, hop_selector selector, void *owner) {
    s->selector = selector;
    s->selector_owner = owner;
}

void hop_session_use_context(hop_session *s, hop_context *context) {
    SSL_set_SSL_CTX(s->ssl, context->ssl);
}

// MARK: Steps

/// Returns the result of a call that did not succeed. The queue contains only this call's errors, because every step
/// starts with an empty queue. A fatal error always has an entry of the SSL library. A record that did not decrypt may
/// leave an entry of another library although it is only dropped.
static hop_result outcome(hop_session *s, int returned) {
    if (returned > 0) return HOP_DONE;
    switch (SSL_get_error(s->ssl, returned)) {
        case SSL_ERROR_WANT_READ:
            return HOP_WANT;
        case SSL_ERROR_ZERO_RETURN:
            return HOP_CLOSED;
        default:
            if (!SSL_want_read(s->ssl) || ERR_GET_LIB(ERR_peek_last_error()) == ERR_LIB_SSL) return HOP_FAILED;
            ERR_clear_error();
            return HOP_WANT;
    }
}

static void begin(hop_session *s, const void *datagram, size_t count) {
    if (ERR_peek_error()) ERR_clear_error();
    s->input = count ? datagram : NULL;
    s->input_count = count;
}

hop_result hop_session_listen(
    hop_session *s, const void *datagram, size_t count, const void *peer, size_t peer_count, const uint8_t *keys) {
    begin(s, datagram, count);
    s->peer = peer;
    s->peer_count = peer_count;
    s->cookie_keys = keys;
    // DTLSv1_listen requires an address to fill, although our BIO has none.
    BIO_ADDR *unused = BIO_ADDR_new();
    int returned = unused ? DTLSv1_listen(s->ssl, unused) : -1;
    BIO_ADDR_free(unused);
    s->input = NULL;
    s->peer = NULL;
    s->cookie_keys = NULL;
    if (returned == 1) {
        // OpenSSL verifies the same cookie once more when it reads the hello again.
        s->cookie_accepted = true;
        return HOP_DONE;
    }
    ERR_clear_error();
    return HOP_WANT;
}

hop_result hop_session_handshake(hop_session *s, const void *datagram, size_t count) {
    begin(s, datagram, count);
    hop_result result = outcome(s, SSL_do_handshake(s->ssl));
    // After the last message the rest of the datagram may already be application records. OpenSSL has read the whole
    // datagram then. If it did not ask for the datagram, it is lost like any datagram.
    s->input = NULL;
    return result;
}

hop_result hop_session_receive(hop_session *s, const void *datagram, size_t count) {
    begin(s, datagram, count);
    // Reading one byte without consuming it makes OpenSSL copy the datagram into its own buffer, where it stays until
    // hop_session_read reads the records. The caller's memory is free again when this returns.
    uint8_t first;
    s->buffers_freed = false;
    hop_result result = outcome(s, SSL_peek(s->ssl, &first, 1));
    s->input = NULL;
    return result;
}

hop_result hop_session_read(hop_session *s, void *out, size_t capacity, size_t *count) {
    begin(s, NULL, 0);
    // A record may be empty, which is not the end.
    int returned;
    do {
        *count = 0;
        returned = SSL_read_ex(s->ssl, out, capacity, count);
    } while (returned == 1 && *count == 0);
    return outcome(s, returned);
}

bool hop_session_has_pending(hop_session *s) {
    return SSL_has_pending(s->ssl) == 1;
}

/// OpenSSL allocates new buffers when a DTLS record is read, but assumes that they exist when one is written (3.0:
/// do_dtls1_write). A read that finds no datagram allocates both.
static void restore_buffers(hop_session *s) {
    if (!s->buffers_freed) return;
    s->buffers_freed = false;
    uint8_t first;
    (void)outcome(s, SSL_peek(s->ssl, &first, 1));
}

hop_result hop_session_seal(
    hop_session *s, const void *plaintext, size_t count, void *out, size_t capacity, size_t *written) {
    begin(s, NULL, 0);
    restore_buffers(s);
    s->sink = out;
    s->sink_capacity = capacity;
    s->sink_count = 0;
    size_t taken = 0;
    int returned = SSL_write_ex(s->ssl, plaintext, count, &taken);
    s->sink = NULL;
    *written = s->sink_count;
    return returned == 1 && s->sink_count > 0 ? HOP_DONE : HOP_FAILED;
}

hop_result hop_session_retransmit(hop_session *s) {
    if (!s->deadline || (s->deadline->tv_sec == 0 && s->deadline->tv_usec == 0)) return HOP_WANT;
    begin(s, NULL, 0);
    s->deadline->tv_sec = 1;
    s->deadline->tv_usec = 0;
    return DTLSv1_handle_timeout(s->ssl) < 0 ? HOP_FAILED : HOP_DONE;
}

void hop_session_shutdown(hop_session *s) {
    begin(s, NULL, 0);
    restore_buffers(s);
    SSL_shutdown(s->ssl);
    ERR_clear_error();
}

bool hop_session_free_buffers(hop_session *s) {
    if (SSL_free_buffers(s->ssl) != 1) return false;
    s->buffers_freed = true;
    return true;
}

uint32_t hop_session_timer_starts(const hop_session *s) { return s->timer_starts; }
uint32_t hop_session_timer_stops(const hop_session *s) { return s->timer_stops; }
uint32_t hop_session_queue_drops(const hop_session *s) { return s->queue_drops; }
hop_refusal hop_session_refusal(const hop_session *s) { return s->refusal; }
