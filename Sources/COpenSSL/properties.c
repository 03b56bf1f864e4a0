#include "internal.h"

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <string.h>

// Properties of a session, and OpenSSL's account of failures.

bool hop_error_next(char *text, size_t capacity, int *reason) {
    const char *data = NULL;
    int flags = 0;
    unsigned long error = ERR_get_error_all(NULL, NULL, NULL, &data, &flags);
    if (error == 0) return false;
    *reason = ERR_GET_LIB(error) == ERR_LIB_SSL ? ERR_GET_REASON(error) : 0;
    const char *name = ERR_reason_error_string(error);
    const char *library = ERR_lib_error_string(error);
    if (!data || !(flags & ERR_TXT_STRING)) data = "";
    BIO_snprintf(
        text, capacity, "%s: %s%s%s", library ? library : "unknown library", name ? name : "unknown reason",
        *data ? ": " : "", data);
    return true;
}

_Static_assert(HOP_REASON_ALERT_BASE == SSL_AD_REASON_OFFSET, "alert reasons");

bool hop_reason_is_no_common_parameters(int reason) {
    switch (reason) {
        case SSL_R_NO_SHARED_CIPHER:
        case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
        case SSL_R_NO_SUITABLE_GROUPS:
        case SSL_R_NO_SUITABLE_KEY_SHARE:
        case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
        case SSL_R_UNSUPPORTED_PROTOCOL:
        case SSL_R_WRONG_SSL_VERSION:
        case SSL_R_UNKNOWN_PROTOCOL:
        case SSL_R_VERSION_TOO_LOW:
        case SSL_R_WRONG_CIPHER_RETURNED:
        case SSL_R_UNKNOWN_CIPHER_RETURNED:
        case SSL_R_UNSAFE_LEGACY_RENEGOTIATION_DISABLED:
            return true;
        default:
            return false;
    }
}

bool hop_reason_is_no_application_protocol(int reason) {
    return reason == SSL_R_NO_APPLICATION_PROTOCOL;
}

hop_verification hop_session_verification(const hop_session *s, long *code, const char **text) {
    long result = SSL_get_verify_result(s->ssl);
    *code = result;
    *text = X509_verify_cert_error_string(result);
    switch (result) {
        case X509_V_OK:
            return HOP_VERIFY_OK;
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
        case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
        case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
        case X509_V_ERR_CERT_SIGNATURE_FAILURE:
        case X509_V_ERR_CERT_UNTRUSTED:
            return s->context->pinned ? HOP_VERIFY_PIN : HOP_VERIFY_UNKNOWN_AUTHORITY;
        case X509_V_ERR_DANE_NO_MATCH:
            return HOP_VERIFY_PIN;
        case X509_V_ERR_HOSTNAME_MISMATCH:
        case X509_V_ERR_IP_ADDRESS_MISMATCH:
            return HOP_VERIFY_NAME;
        case X509_V_ERR_CERT_HAS_EXPIRED:
            return HOP_VERIFY_EXPIRED;
        case X509_V_ERR_CERT_NOT_YET_VALID:
            return HOP_VERIFY_NOT_YET_VALID;
        default:
            return HOP_VERIFY_OTHER;
    }
}

bool hop_session_has_extended_master_secret(hop_session *s) {
    return SSL_get_extms_support(s->ssl) == 1;
}

const uint8_t *hop_session_alpn(const hop_session *s, size_t *count) {
    const unsigned char *name = NULL;
    unsigned int length = 0;
    SSL_get0_alpn_selected(s->ssl, &name, &length);
    *count = length;
    return name;
}

const char *hop_session_server_name(const hop_session *s) {
    return SSL_get_servername(s->ssl, TLSEXT_NAMETYPE_host_name);
}

const char *hop_session_cipher(const hop_session *s) {
    return SSL_get_cipher_name(s->ssl);
}

size_t hop_session_record_overhead(const hop_session *s) {
    const SSL_CIPHER *cipher = SSL_get_current_cipher(s->ssl);
    // Header and tag. Only GCM carries its nonce in the record (RFC 5288 §3, RFC 7905 §2).
    bool implicit_nonce = cipher && SSL_CIPHER_get_cipher_nid(cipher) == NID_chacha20_poly1305;
    return implicit_nonce ? 13 + 16 : 13 + 8 + 16;
}

bool hop_session_client_random(const hop_session *s, uint8_t *out) {
    return SSL_get_client_random(s->ssl, out, HOP_RANDOM_BYTES) == HOP_RANDOM_BYTES;
}

bool hop_session_peer_leaf_digest(const hop_session *s, uint8_t *out) {
    X509 *leaf = SSL_get0_peer_certificate(s->ssl);
    unsigned int count = HOP_DIGEST_BYTES;
    return leaf && X509_digest(leaf, EVP_sha256(), out, &count) == 1;
}

bool hop_session_peer_uri(const hop_session *s, uint8_t *out, size_t capacity, size_t *count) {
    X509 *leaf = SSL_get0_peer_certificate(s->ssl);
    if (!leaf) return false;
    GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    int found = 0;
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_URI) continue;
        int length = ASN1_STRING_length(name->d.uniformResourceIdentifier);
        if (++found > 1 || length <= 0 || (size_t)length > capacity) {
            found = 0;
            break;
        }
        memcpy(out, ASN1_STRING_get0_data(name->d.uniformResourceIdentifier), (size_t)length);
        *count = (size_t)length;
    }
    GENERAL_NAMES_free(names);
    return found == 1;
}

bool hop_session_export(hop_session *s, const char *label, size_t label_count, uint8_t *out, size_t count) {
    return SSL_export_keying_material(s->ssl, out, count, label, label_count, NULL, 0, 0) == 1;
}
