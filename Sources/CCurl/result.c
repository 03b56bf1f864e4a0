#include "internal.h"

#include <openssl/x509_vfy.h>
#include <string.h>

static ccurl_outcome outcome(CURLcode code) {
    switch (code) {
    case CURLE_OK: return CCURL_DONE;
    case CURLE_WRITE_ERROR: return CCURL_STOPPED;
    case CURLE_COULDNT_RESOLVE_HOST: return CCURL_NO_NAME;
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_PROXY: return CCURL_PROXY;
    case CURLE_COULDNT_CONNECT:
    case CURLE_INTERFACE_FAILED: return CCURL_NO_CONNECTION;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_ENGINE_NOTFOUND:
    case CURLE_SSL_ENGINE_SETFAILED:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_SHUTDOWN_FAILED:
    case CURLE_SSL_CLIENTCERT: return CCURL_TLS;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS: return CCURL_CERTIFICATE;
    case CURLE_SSL_CACERT_BADFILE: return CCURL_AUTHORITIES;
    case CURLE_OPERATION_TIMEDOUT: return CCURL_TIMEOUT;
    case CURLE_FILESIZE_EXCEEDED: return CCURL_TOO_LARGE;
#if LIBCURL_VERSION_NUM >= 0x080600
    case CURLE_TOO_LARGE: return CCURL_HEAD_TOO_LARGE;
#endif
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_BAD_CONTENT_ENCODING:
    case CURLE_HTTP2: return CCURL_MALFORMED;
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_HTTP2_STREAM: return CCURL_CUT;
    default: return CCURL_FAILED;
    }
}

static ccurl_certificate certificate(CURL *easy) {
    long verdict = X509_V_OK;
    curl_easy_getinfo(easy, CURLINFO_SSL_VERIFYRESULT, &verdict);
    switch (verdict) {
    // The chain is good, or not yet verified: curl compares the names itself, after OpenSSL has finished.
    case X509_V_OK:
    case X509_V_ERR_UNSPECIFIED:
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH: return CCURL_CERTIFICATE_WRONG_NAME;
    case X509_V_ERR_CERT_HAS_EXPIRED: return CCURL_CERTIFICATE_EXPIRED;
    case X509_V_ERR_CERT_NOT_YET_VALID: return CCURL_CERTIFICATE_NOT_YET_VALID;
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_CERT_UNTRUSTED: return CCURL_CERTIFICATE_UNTRUSTED;
    default: return CCURL_CERTIFICATE_OTHER;
    }
}

static bool has_time(CURL *easy, CURLINFO info) {
    curl_off_t microseconds = 0;
    return curl_easy_getinfo(easy, info, &microseconds) == CURLE_OK && microseconds > 0;
}

static ccurl_phase phase(const ccurl_transfer *self) {
    if (has_time(self->easy, CURLINFO_PRETRANSFER_TIME_T)) return CCURL_PHASE_EXCHANGE;
    if (self->has_begun_tls) return CCURL_PHASE_TLS;
    if (has_time(self->easy, CURLINFO_NAMELOOKUP_TIME_T)) return CCURL_PHASE_CONNECT;
    return CCURL_PHASE_LOOKUP;
}

void ccurl_transfer_classify(ccurl_transfer *self, CURLcode code, ccurl_result *result) {
    memset(result, 0, sizeof *result);
    result->outcome = outcome(code);
    result->phase = phase(self);
    // libcurl before 8.6 reports a header line that is too long in this way.
    if (code == CURLE_OUT_OF_MEMORY && result->phase == CCURL_PHASE_EXCHANGE) result->outcome = CCURL_HEAD_TOO_LARGE;
    if (result->outcome == CCURL_CERTIFICATE) result->certificate = certificate(self->easy);
    long status = 0;
    curl_easy_getinfo(self->easy, CURLINFO_HTTP_CONNECTCODE, &status);
    result->proxy_status = (int32_t)status;
    const char *message = self->message[0] || code == CURLE_OK ? self->message : curl_easy_strerror(code);
    strncpy(result->message, message, sizeof result->message - 1);
}
