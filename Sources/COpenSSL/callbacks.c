#include "internal.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

// MARK: Cookies

/// Half of an HMAC-SHA256, so that the HelloVerifyRequest is smaller than the smallest hello.
enum { COOKIE_BYTES = 16 };

static bool make_cookie(const hop_session *s, const uint8_t *key, uint8_t *out) {
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned int count = 0;
    if (!HMAC(EVP_sha256(), key, HOP_COOKIE_KEY_BYTES, s->peer, s->peer_count, digest, &count)) return false;
    memcpy(out, digest, COOKIE_BYTES);
    return true;
}

int hop_cookie_generate(SSL *ssl, unsigned char *cookie, unsigned int *count) {
    hop_session *s = SSL_get_app_data(ssl);
    if (!s->cookie_keys || !make_cookie(s, s->cookie_keys, cookie)) return 0;
    *count = COOKIE_BYTES;
    return 1;
}

int hop_cookie_verify(SSL *ssl, const unsigned char *cookie, unsigned int count) {
    hop_session *s = SSL_get_app_data(ssl);
    if (s->cookie_accepted) return 1;
    if (!s->cookie_keys || count != COOKIE_BYTES) return 0;
    for (int i = 0; i < 2; i++) {
        uint8_t expected[COOKIE_BYTES];
        if (!make_cookie(s, s->cookie_keys + i * HOP_COOKIE_KEY_BYTES, expected)) return 0;
        if (CRYPTO_memcmp(cookie, expected, COOKIE_BYTES) == 0) return 1;
    }
    return 0;
}

// MARK: The peer's hello

int hop_client_hello(SSL *ssl, int *alert, void *unused) {
    (void)unused;
    hop_session *s = SSL_get_app_data(ssl);
    const unsigned char *data;
    size_t count;
    if (!SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_extended_master_secret, &data, &count)) {
        s->refusal = HOP_REFUSED_NO_EXTENDED_MASTER_SECRET;
        *alert = SSL_AD_HANDSHAKE_FAILURE;
        return SSL_CLIENT_HELLO_ERROR;
    }
    // Without the extension OpenSSL never calls hop_select_alpn.
    if (!SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_application_layer_protocol_negotiation, &data, &count)) {
        s->refusal = HOP_REFUSED_NO_ALPN;
        *alert = SSL_AD_NO_APPLICATION_PROTOCOL;
        return SSL_CLIENT_HELLO_ERROR;
    }
    return SSL_CLIENT_HELLO_SUCCESS;
}

int hop_server_name(SSL *ssl, int *alert, void *unused) {
    (void)alert, (void)unused;
    hop_session *s = SSL_get_app_data(ssl);
    if (s->selector) s->selector(s->selector_owner, s, SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name));
    return SSL_TLSEXT_ERR_OK;
}

int hop_select_alpn(
    SSL *ssl, const unsigned char **out, unsigned char *out_count, const unsigned char *in, unsigned int in_count,
    void *unused) {
    (void)unused;
    hop_session *s = SSL_get_app_data(ssl);
    unsigned char *chosen;
    int agreed = SSL_select_next_proto(
        &chosen, out_count, s->context->alpn, s->context->alpn_count, in, in_count);
    if (agreed != OPENSSL_NPN_NEGOTIATED) {
        s->refusal = HOP_REFUSED_NO_ALPN;
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}
