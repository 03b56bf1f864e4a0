#include "internal.h"

#include <ctype.h>
#include <string.h>

// The path is sent unchanged: ACME signs the URL byte for byte.
enum { FLAGS = CURLU_PATH_AS_IS | CURLU_DISALLOW_USER };

static ccurl_url_problem problem(CURLUcode code) {
    if (code == CURLUE_OK) return CCURL_URL_OK;
    return code == CURLUE_USER_NOT_ALLOWED ? CCURL_URL_HAS_CREDENTIALS : CCURL_URL_MALFORMED;
}

static CURLUcode read_parts(CURLU *handle, ccurl_url *url) {
    CURLUcode code = curl_url_set(handle, CURLUPART_FRAGMENT, NULL, 0);
    if (!code) code = curl_url_get(handle, CURLUPART_URL, &url->text, 0);
    if (!code) code = curl_url_get(handle, CURLUPART_SCHEME, &url->scheme, 0);
    if (!code) code = curl_url_get(handle, CURLUPART_HOST, &url->host, 0);
    if (!code) code = curl_url_get(handle, CURLUPART_PORT, &url->port, CURLU_DEFAULT_PORT);
    if (!code) code = curl_url_get(handle, CURLUPART_PATH, &url->path, 0);
    if (code) return code;
    for (char *at = url->host; *at; at++) *at = (char)tolower((unsigned char)*at);
    return CURLUE_OK;
}

ccurl_url_problem ccurl_url_parse(const char *base, const char *text, ccurl_url *url) {
    memset(url, 0, sizeof *url);
    CURLU *handle = curl_url();
    if (!handle) return CCURL_URL_MALFORMED;
    CURLUcode code = base ? curl_url_set(handle, CURLUPART_URL, base, FLAGS) : CURLUE_OK;
    if (!code) code = curl_url_set(handle, CURLUPART_URL, text, FLAGS);
    if (!code) code = read_parts(handle, url);
    curl_url_cleanup(handle);
    return problem(code);
}

void ccurl_url_clear(ccurl_url *url) {
    curl_free(url->text);
    curl_free(url->scheme);
    curl_free(url->host);
    curl_free(url->port);
    curl_free(url->path);
    memset(url, 0, sizeof *url);
}
