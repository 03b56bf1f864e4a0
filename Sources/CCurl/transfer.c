#define _GNU_SOURCE
#include "internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

// MARK: Callbacks

static size_t receive_head(char *bytes, size_t size, size_t count, void *transfer) {
    ccurl_transfer *self = transfer;
    size_t total = size * count;
    return self->head(self->owner, (const uint8_t *)bytes, total) ? total : 0;
}

static size_t receive_body(char *bytes, size_t size, size_t count, void *transfer) {
    ccurl_transfer *self = transfer;
    size_t total = size * count;
    // For an empty chunk, 0 would mean success; curl never delivers one.
    return self->body(self->owner, (const uint8_t *)bytes, total) ? total : 0;
}

// Opens sockets as close-on-exec, which curl does not do, so that child processes do not inherit them.
static curl_socket_t open_socket(void *unused, curlsocktype purpose, struct curl_sockaddr *address) {
    (void)unused, (void)purpose;
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

// Records the start of TLS: libcurl reports the time of the TCP connection only after the TLS handshake.
static CURLcode begin_tls(CURL *easy, void *unused, void *transfer) {
    (void)easy, (void)unused;
    ccurl_transfer *self = transfer;
    self->has_begun_tls = true;
    return CURLE_OK;
}

// MARK: Options

static bool set_number(CURL *easy, CURLoption option, int64_t value) {
    return curl_easy_setopt(easy, option, (long)value) == CURLE_OK;
}

static bool set_size(CURL *easy, CURLoption option, int64_t value) {
    return curl_easy_setopt(easy, option, (curl_off_t)value) == CURLE_OK;
}

static bool set_text(CURL *easy, CURLoption option, const char *value) {
    return curl_easy_setopt(easy, option, value) == CURLE_OK;
}

static bool set_bytes(CURL *easy, CURLoption option, const uint8_t *bytes, size_t count) {
    struct curl_blob blob = {.data = (void *)bytes, .len = count, .flags = CURL_BLOB_COPY};
    return curl_easy_setopt(easy, option, &blob) == CURLE_OK;
}

static bool set_callbacks(ccurl_transfer *self) {
    CURL *easy = self->easy;
    return curl_easy_setopt(easy, CURLOPT_PRIVATE, self) == CURLE_OK
        && curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, self->message) == CURLE_OK
        && curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, receive_head) == CURLE_OK
        && curl_easy_setopt(easy, CURLOPT_HEADERDATA, self) == CURLE_OK
        && curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, receive_body) == CURLE_OK
        && curl_easy_setopt(easy, CURLOPT_WRITEDATA, self) == CURLE_OK
        && curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket) == CURLE_OK
        && curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, begin_tls) == CURLE_OK
        && curl_easy_setopt(easy, CURLOPT_SSL_CTX_DATA, self) == CURLE_OK;
}

/// Sets the options that are the same for every request. Cookies, netrc, alternative services, HSTS and content
/// decoding are off by default and stay off.
static bool set_rules(CURL *easy) {
    return set_number(easy, CURLOPT_NOSIGNAL, 1)
        && set_number(easy, CURLOPT_FOLLOWLOCATION, 0)
        && set_number(easy, CURLOPT_NETRC, CURL_NETRC_IGNORED)
        && set_number(easy, CURLOPT_DISALLOW_USERNAME_IN_URL, 1)
        && set_number(easy, CURLOPT_PATH_AS_IS, 1)
        && set_number(easy, CURLOPT_HTTP09_ALLOWED, 0)
        && set_number(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1)
        // Otherwise a name server that does not respond would block the whole thread when its transfer ends. The lookup
        // is abandoned instead, and frees itself when the resolver times out.
        && set_number(easy, CURLOPT_QUICK_EXIT, 1)
        && set_number(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_2TLS)
        && set_number(easy, CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2)
        && set_number(easy, CURLOPT_SSL_VERIFYPEER, 1)
        && set_number(easy, CURLOPT_SSL_VERIFYHOST, 2)
        && set_number(easy, CURLOPT_PROXY_SSLVERSION, CURL_SSLVERSION_TLSv1_2)
        && set_number(easy, CURLOPT_PROXY_SSL_VERIFYPEER, 1)
        && set_number(easy, CURLOPT_PROXY_SSL_VERIFYHOST, 2);
}

static bool set_authorities(CURL *easy, const ccurl_request *request) {
    if (!request->authorities && !request->authorities_file) return true;
    // The given trust anchors replace the system's, including those in the folder that libcurl was built with.
    if (!set_text(easy, CURLOPT_CAPATH, NULL)) return false;
    if (request->authorities) {
        return set_bytes(easy, CURLOPT_CAINFO_BLOB, request->authorities, request->authorities_count);
    }
#if LIBCURL_VERSION_NUM >= 0x075700
    // The file may change, so it is read for each connection.
    if (!set_number(easy, CURLOPT_CA_CACHE_TIMEOUT, 0)) return false;
#endif
    return set_text(easy, CURLOPT_CAINFO, request->authorities_file);
}

static bool set_method(CURL *easy, const ccurl_request *request) {
    if (strcmp(request->method, "GET") == 0) return set_number(easy, CURLOPT_HTTPGET, 1);
    if (strcmp(request->method, "HEAD") == 0) return set_number(easy, CURLOPT_NOBODY, 1);
    if (!request->has_body) return set_text(easy, CURLOPT_CUSTOMREQUEST, request->method);
    return set_number(easy, CURLOPT_POST, 1)
        && set_size(easy, CURLOPT_POSTFIELDSIZE_LARGE, (int64_t)request->body_count)
        && set_text(easy, CURLOPT_COPYPOSTFIELDS, request->body_count ? (const char *)request->body : "")
        && (strcmp(request->method, "POST") == 0 || set_text(easy, CURLOPT_CUSTOMREQUEST, request->method));
}

static bool set_fields(ccurl_transfer *self, const ccurl_request *request) {
    for (size_t index = 0; index < request->field_count; index++) {
        struct curl_slist *longer = curl_slist_append(self->fields, request->fields[index]);
        if (!longer) return false;
        self->fields = longer;
    }
    return curl_easy_setopt(self->easy, CURLOPT_HTTPHEADER, self->fields) == CURLE_OK
        && set_text(self->easy, CURLOPT_USERAGENT, request->user_agent);
}

static bool set_up(ccurl_transfer *self, const ccurl_request *request) {
    CURL *easy = self->easy;
    return set_callbacks(self) && set_rules(easy) && set_authorities(easy, request) && set_method(easy, request)
        && set_fields(self, request)
        && set_text(easy, CURLOPT_URL, request->url)
        && set_text(easy, CURLOPT_PROTOCOLS_STR, request->scheme)
        && (request->uses_proxy
            || (set_text(easy, CURLOPT_PROXY, "") && set_text(easy, CURLOPT_NOPROXY, "*")))
        && set_number(easy, CURLOPT_CONNECTTIMEOUT_MS, request->connect_timeout)
        && set_number(easy, CURLOPT_TIMEOUT_MS, request->total_timeout)
        && set_size(easy, CURLOPT_MAXFILESIZE_LARGE, request->body_limit)
        && set_number(easy, CURLOPT_FRESH_CONNECT, request->may_repeat ? 0 : 1)
        && set_number(easy, CURLOPT_MAXAGE_CONN, request->idle_limit);
}

// MARK: Lifecycle

bool ccurl_prepare(void) {
    const curl_version_info_data *found = curl_version_info(CURLVERSION_NOW);
    return found->version_num >= 0x075500 && (found->features & CURL_VERSION_SSL)
        && curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
}

ccurl_transfer *ccurl_transfer_create(
    const ccurl_request *request, void *owner, ccurl_receiver head, ccurl_receiver body) {
    ccurl_transfer *self = calloc(1, sizeof *self);
    if (!self) return NULL;
    self->owner = owner;
    self->head = head;
    self->body = body;
    self->easy = curl_easy_init();
    if (!self->easy || !set_up(self, request)) {
        ccurl_transfer_destroy(self);
        return NULL;
    }
    return self;
}

void ccurl_transfer_destroy(ccurl_transfer *self) {
    if (!self) return;
    curl_easy_cleanup(self->easy);
    curl_slist_free_all(self->fields);
    free(self);
}
