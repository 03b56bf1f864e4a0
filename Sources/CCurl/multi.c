#include "internal.h"

struct ccurl_multi;  // Never defined: an opaque name for CURLM, so that callers do not need curl's header.

static CURLM *curl(ccurl_multi *multi) {
    return (CURLM *)multi;
}

ccurl_multi *ccurl_multi_create(int32_t connections) {
    CURLM *multi = curl_multi_init();
    if (!multi) return NULL;
    if (curl_multi_setopt(multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)connections) != CURLM_OK
        || curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long)connections) != CURLM_OK) {
        curl_multi_cleanup(multi);
        return NULL;
    }
    return (ccurl_multi *)multi;
}

void ccurl_multi_destroy(ccurl_multi *multi) {
    if (multi) curl_multi_cleanup(curl(multi));
}

bool ccurl_multi_add(ccurl_multi *multi, ccurl_transfer *transfer) {
    return curl_multi_add_handle(curl(multi), transfer->easy) == CURLM_OK;
}

void ccurl_multi_remove(ccurl_multi *multi, ccurl_transfer *transfer) {
    curl_multi_remove_handle(curl(multi), transfer->easy);
}

bool ccurl_multi_perform(ccurl_multi *multi) {
    int running = 0;
    return curl_multi_perform(curl(multi), &running) == CURLM_OK;
}

bool ccurl_multi_poll(ccurl_multi *multi, int32_t milliseconds) {
    return curl_multi_poll(curl(multi), NULL, 0, milliseconds, NULL) == CURLM_OK;
}

void ccurl_multi_wakeup(ccurl_multi *multi) {
    curl_multi_wakeup(curl(multi));
}

void *ccurl_multi_next(ccurl_multi *multi, ccurl_result *result) {
    int left = 0;
    CURLMsg *message;
    while ((message = curl_multi_info_read(curl(multi), &left))) {
        if (message->msg != CURLMSG_DONE) continue;
        CURLcode code = message->data.result;
        CURL *easy = message->easy_handle;
        char *found = NULL;
        if (curl_easy_getinfo(easy, CURLINFO_PRIVATE, &found) != CURLE_OK || !found) continue;
        ccurl_transfer *transfer = (ccurl_transfer *)found;
        // Removing the handle invalidates the message, so it is read first.
        ccurl_transfer_classify(transfer, code, result);
        curl_multi_remove_handle(curl(multi), easy);
        return transfer->owner;
    }
    return NULL;
}
