#include "internal.h"

#include <string.h>

// BIO_s_mem is a byte stream and loses the boundaries of records; BIO_s_datagram needs a socket. This BIO keeps
// boundaries and has no socket: reads consume the datagram of the current call, writes go to the caller's buffer
// (application records) or to a bounded queue (handshake flights and alerts).

enum { RECORD_APPLICATION_DATA = 23 };

static bool reserve(hop_session *s, size_t count) {
    size_t needed = s->queue_tail + count;
    if (needed > HOP_MAX_QUEUED_BYTES) return false;
    if (needed <= s->queue_capacity) return true;
    size_t capacity = s->queue_capacity ? s->queue_capacity : 2048;
    while (capacity < needed) capacity *= 2;
    uint8_t *grown = OPENSSL_realloc(s->queue, capacity);
    if (!grown) return false;
    s->queue = grown;
    s->queue_capacity = capacity;
    return true;
}

static void enqueue(hop_session *s, const uint8_t *data, size_t count) {
    if (count > UINT16_MAX || !reserve(s, count + 2)) {
        s->queue_drops++;
        return;
    }
    s->queue[s->queue_tail] = (uint8_t)(count >> 8);
    s->queue[s->queue_tail + 1] = (uint8_t)count;
    memcpy(s->queue + s->queue_tail + 2, data, count);
    s->queue_tail += count + 2;
}

void hop_session_discard_queue(hop_session *s) {
    OPENSSL_free(s->queue);
    s->queue = NULL;
    s->queue_capacity = s->queue_head = s->queue_tail = 0;
}

size_t hop_session_next_datagram(hop_session *s, void *out, size_t capacity) {
    while (s->queue_head < s->queue_tail) {
        const uint8_t *entry = s->queue + s->queue_head;
        size_t count = ((size_t)entry[0] << 8) | entry[1];
        s->queue_head += count + 2;
        bool fits = count <= capacity;
        if (fits) memcpy(out, entry + 2, count);
        if (s->queue_head == s->queue_tail) hop_session_discard_queue(s);
        if (fits) return count;
        s->queue_drops++;
    }
    return 0;
}

size_t hop_session_queued_bytes(const hop_session *s) {
    size_t count = 0;
    for (size_t at = s->queue_head; at < s->queue_tail;) {
        size_t entry = ((size_t)s->queue[at] << 8) | s->queue[at + 1];
        count += entry;
        at += entry + 2;
    }
    return count;
}

static int datagram_write(BIO *bio, const char *data, int count) {
    hop_session *s = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (count <= 0) return 0;
    if (s->sink && (uint8_t)data[0] == RECORD_APPLICATION_DATA && (size_t)count <= s->sink_capacity) {
        memcpy(s->sink, data, (size_t)count);
        s->sink_count = (size_t)count;
        s->sink = NULL;
    } else {
        enqueue(s, (const uint8_t *)data, (size_t)count);
    }
    return count;
}

static int datagram_read(BIO *bio, char *out, int capacity) {
    hop_session *s = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (!s->input) {
        BIO_set_retry_read(bio);
        return -1;
    }
    size_t count = s->input_count;
    // As with recv(), bytes that do not fit are lost.
    if (count > (size_t)capacity) count = (size_t)capacity;
    memcpy(out, s->input, count);
    s->input = NULL;
    return (int)count;
}

static long datagram_ctrl(BIO *bio, int command, long number, void *pointer) {
    hop_session *s = BIO_get_data(bio);
    switch (command) {
        case BIO_CTRL_FLUSH:
        case BIO_CTRL_DUP:
            return 1;
        case BIO_CTRL_PENDING:
            return s->input ? (long)s->input_count : 0;
        case BIO_CTRL_DGRAM_SET_NEXT_TIMEOUT:
            s->deadline = pointer;
            if (s->deadline->tv_sec != 0 || s->deadline->tv_usec != 0) {
                s->timer_starts++;
            } else {
                s->timer_stops++;
            }
            return 1;
        case BIO_CTRL_DGRAM_GET_MTU_OVERHEAD:
            // IPv6 and UDP headers. The value only affects the smallest MTU that OpenSSL accepts.
            return 48;
        case BIO_CTRL_DGRAM_SET_MTU:
            return number;
        case BIO_CTRL_DGRAM_QUERY_MTU:
        case BIO_CTRL_DGRAM_GET_MTU:
        case BIO_CTRL_DGRAM_GET_FALLBACK_MTU:
            return 1200;
        default:
            // GET_PEER in particular: the caller knows the address, and nothing here is sent to an address.
            return 0;
    }
}

static int datagram_create(BIO *bio) {
    BIO_set_init(bio, 1);
    return 1;
}

static BIO_METHOD *method;
static CRYPTO_ONCE method_once = CRYPTO_ONCE_STATIC_INIT;

static void make_method(void) {
    int type = BIO_get_new_index();
    if (type == -1) return;
    BIO_METHOD *made = BIO_meth_new(type | BIO_TYPE_SOURCE_SINK, "datagram");
    if (!made) return;
    if (!BIO_meth_set_write(made, datagram_write) || !BIO_meth_set_read(made, datagram_read)
        || !BIO_meth_set_ctrl(made, datagram_ctrl) || !BIO_meth_set_create(made, datagram_create)) {
        BIO_meth_free(made);
        return;
    }
    method = made;
}

BIO *hop_datagram_bio_new(hop_session *session) {
    if (!CRYPTO_THREAD_run_once(&method_once, make_method) || !method) return NULL;
    BIO *bio = BIO_new(method);
    if (bio) BIO_set_data(bio, session);
    return bio;
}
