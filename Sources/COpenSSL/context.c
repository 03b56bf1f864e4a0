#include "internal.h"

#include <arpa/inet.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <string.h>

void hop_keep_at_exit(void) {
    OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL);
}

static const char ciphers[] =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";

bool hop_random(void *out, size_t count) {
    return RAND_bytes(out, (int)count) == 1;
}

bool hop_is_ip_address(const char *text) {
    uint8_t address[16];
    return inet_pton(AF_INET, text, address) == 1 || inet_pton(AF_INET6, text, address) == 1;
}

static bool set_up(hop_context *context) {
    SSL_CTX *ssl = context->ssl;
    SSL_CTX_set_options(
        ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_NO_QUERY_MTU | SSL_OP_NO_COMPRESSION
                 | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_clear_options(ssl, SSL_OP_LEGACY_SERVER_CONNECT | SSL_OP_NO_EXTENDED_MASTER_SECRET);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(ssl, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_max_cert_list(ssl, HOP_MAX_CHAIN_BYTES);
    SSL_CTX_set_security_level(ssl, 2);
    if (SSL_CTX_set_min_proto_version(ssl, DTLS1_2_VERSION) != 1) return false;
    if (SSL_CTX_set_max_proto_version(ssl, DTLS1_2_VERSION) != 1) return false;
    if (SSL_CTX_set_cipher_list(ssl, ciphers) != 1) return false;
    // A client's list also contains the curves of the ECDSA certificates that it accepts (RFC 8422 §5.1.1). A server
    // never agrees on a key exchange over P-521, which costs it a hundred times as much as one over X25519.
    const char *groups = context->server ? "X25519:P-256:P-384" : "X25519:P-256:P-384:P-521";
    if (SSL_CTX_set1_groups_list(ssl, groups) != 1) return false;
    if (context->server) {
        SSL_CTX_set_verify(ssl, SSL_VERIFY_NONE, NULL);
        SSL_CTX_set_cookie_generate_cb(ssl, hop_cookie_generate);
        SSL_CTX_set_cookie_verify_cb(ssl, hop_cookie_verify);
        SSL_CTX_set_client_hello_cb(ssl, hop_client_hello, NULL);
        if (SSL_CTX_set_tlsext_servername_callback(ssl, hop_server_name) != 1) return false;
        SSL_CTX_set_alpn_select_cb(ssl, hop_select_alpn, NULL);
    } else {
        SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER, NULL);
    }
    return true;
}

hop_context *hop_context_new(bool server) {
    hop_context *context = OPENSSL_zalloc(sizeof *context);
    if (!context) return NULL;
    context->server = server;
    context->ssl = SSL_CTX_new(server ? DTLS_server_method() : DTLS_client_method());
    if (!context->ssl || !set_up(context)) {
        hop_context_free(context);
        return NULL;
    }
    return context;
}

void hop_context_free(hop_context *context) {
    if (!context) return;
    SSL_CTX_free(context->ssl);
    OPENSSL_free(context);
}

bool hop_context_set_alpn(hop_context *context, const uint8_t *protocols, size_t count) {
    if (count == 0 || count > sizeof context->alpn) return false;
    memcpy(context->alpn, protocols, count);
    context->alpn_count = (uint8_t)count;
    // SSL_CTX_set_alpn_protos returns 0 for success, unlike all other functions of OpenSSL.
    return context->server || SSL_CTX_set_alpn_protos(context->ssl, protocols, (unsigned int)count) == 0;
}

/// Returns whether the last error is only the end of a PEM file, and clears it then.
static bool at_end_of_pem(void) {
    unsigned long error = ERR_peek_last_error();
    if (ERR_GET_LIB(error) != ERR_LIB_PEM || ERR_GET_REASON(error) != PEM_R_NO_START_LINE) return false;
    ERR_clear_error();
    return true;
}

static int no_password(char *out, int capacity, int writing, void *unused) {
    (void)out, (void)capacity, (void)writing, (void)unused;
    return -1;
}

bool hop_context_use_chain(hop_context *context, const uint8_t *pem, size_t count) {
    if (count > HOP_MAX_CHAIN_BYTES * 2) return false;
    BIO *bio = BIO_new_mem_buf(pem, (int)count);
    if (!bio) return false;
    size_t certificates = 0, size = 0;
    bool valid = true;
    while (valid) {
        X509 *certificate = PEM_read_bio_X509(bio, NULL, no_password, NULL);
        if (!certificate) break;
        int encoded = i2d_X509(certificate, NULL);
        size += encoded > 0 ? (size_t)encoded : 0;
        valid = certificates++ == 0 ? SSL_CTX_use_certificate(context->ssl, certificate) == 1
                                    : SSL_CTX_add1_chain_cert(context->ssl, certificate) == 1;
        X509_free(certificate);
    }
    BIO_free(bio);
    if (!valid || !at_end_of_pem()) return false;
    return certificates > 0 && size <= HOP_MAX_CHAIN_BYTES;
}

/// Makes an Ed25519 certificate usable. OpenSSL permits one with the ECDSA suites in TLS 1.2 (RFC 8422 §5.1), but not
/// in DTLS 1.2, because ssl_set_masks compares the version number with TLS's. The suites are permitted to a context
/// that has an ECDSA certificate beside it. That one is never presented: Ed25519 is the only signature algorithm of
/// the context.
static bool permit_ed25519(SSL_CTX *ssl) {
    bool valid = false;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    if (key && certificate) {
        valid = X509_set_pubkey(certificate, key) == 1 && X509_gmtime_adj(X509_getm_notBefore(certificate), 0)
            && X509_gmtime_adj(X509_getm_notAfter(certificate), 0) && X509_sign(certificate, key, EVP_sha256()) > 0
            && SSL_CTX_use_certificate(ssl, certificate) == 1 && SSL_CTX_use_PrivateKey(ssl, key) == 1
            && SSL_CTX_set1_sigalgs_list(ssl, "ed25519") == 1;
    }
    X509_free(certificate);
    EVP_PKEY_free(key);
    return valid;
}

bool hop_context_use_key(hop_context *context, const uint8_t *pem, size_t count) {
    if (count > HOP_MAX_CHAIN_BYTES) return false;
    BIO *bio = BIO_new_mem_buf(pem, (int)count);
    if (!bio) return false;
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);
    BIO_free(bio);
    bool valid = key && SSL_CTX_use_PrivateKey(context->ssl, key) == 1
        && SSL_CTX_check_private_key(context->ssl) == 1
        && (!EVP_PKEY_is_a(key, "ED25519") || permit_ed25519(context->ssl));
    EVP_PKEY_free(key);
    return valid;
}

bool hop_context_trust_system(hop_context *context) {
    return SSL_CTX_set_default_verify_paths(context->ssl) == 1;
}

/// Trusts an intermediate or a leaf that the operator has named, without a chain to a root.
static bool trust_partial_chains(hop_context *context) {
    return X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(context->ssl), X509_V_FLAG_PARTIAL_CHAIN) == 1;
}

bool hop_context_trust_pem(hop_context *context, const uint8_t *pem, size_t count) {
    if (count > INT32_MAX) return false;
    BIO *bio = BIO_new_mem_buf(pem, (int)count);
    if (!bio) return false;
    X509_STORE *store = SSL_CTX_get_cert_store(context->ssl);
    size_t certificates = 0;
    bool valid = true;
    while (valid) {
        X509 *certificate = PEM_read_bio_X509_AUX(bio, NULL, no_password, NULL);
        if (!certificate) break;
        valid = X509_STORE_add_cert(store, certificate) == 1;
        certificates++;
        X509_free(certificate);
    }
    BIO_free(bio);
    return valid && at_end_of_pem() && certificates > 0 && trust_partial_chains(context);
}

void hop_context_require_client(hop_context *context) {
    SSL_CTX_set_verify(context->ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
}

bool hop_context_trust_file(hop_context *context, const char *path) {
    return SSL_CTX_load_verify_file(context->ssl, path) == 1 && trust_partial_chains(context);
}

bool hop_context_trust_pin(hop_context *context, const uint8_t *digest) {
    // A pin is a DANE record that the operator carries instead of DNS (RFC 7671). A pinned leaf or leaf key is the
    // peer's identity, so names and dates do not matter (§5.1). A pinned authority is the anchor of an ordinary chain,
    // with names and dates (§5.2).
    memcpy(context->pin, digest, sizeof context->pin);
    context->pinned = true;
    if (SSL_CTX_dane_enable(context->ssl) != 1) return false;
    SSL_CTX_dane_set_flags(context->ssl, DANE_FLAG_NO_DANE_EE_NAMECHECKS);
    return true;
}
