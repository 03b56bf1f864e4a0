#ifndef HOPGATE_CCURL_INTERNAL_H
#define HOPGATE_CCURL_INTERNAL_H

#include "CCurl.h"

#include <curl/curl.h>

struct ccurl_transfer {
    CURL *easy;
    struct curl_slist *fields;
    void *owner;
    ccurl_receiver head;
    ccurl_receiver body;
    /// TCP is connected and the TLS handshake has begun.
    bool has_begun_tls;
    char message[CURL_ERROR_SIZE];
};

/// Translates libcurl's result code of a transfer.
void ccurl_transfer_classify(ccurl_transfer *transfer, CURLcode code, ccurl_result *result);

#endif
