// flood: sends hostile datagrams to a gateway's tunnel port on 127.0.0.1. Requires root, for its raw socket.
//
//   flood PORT SECONDS RATE HELLO_FILE
//
// RATE is the total number of datagrams per second; HELLO_FILE contains one DTLS ClientHello datagram. The program
// sends in turns: random bytes of every size, records that resemble those of a session, datagrams from port 0, hellos
// from addresses in all of 127/8, and half-open handshakes (the cookie is returned, and nothing after it). It prints
// the number of each.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { KINDS = 5, RING = 64, RECORD_HEADER = 13, HANDSHAKE_HEADER = 12 };
enum { RANDOM_AT = RECORD_HEADER + HANDSHAKE_HEADER + 2 };
static const char *const names[KINDS] = {"garbage", "records", "port0", "hellos", "half-open"};

static struct sockaddr_in target;
static uint8_t hello[2048];
static int hello_length, raw;
static long sent[KINDS];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void randomise(uint8_t *bytes, int length) {
    for (int i = 0; i < length; i++) bytes[i] = lrand48() >> 8;
}

/* A random address in 127/8, except the first ones, which tests use. */
static uint32_t some_address(void) { return htonl(0x7f010000 + lrand48() % 0x00f00000); }

static void send_raw(uint32_t source, uint16_t port, const uint8_t *payload, int length) {
    uint8_t packet[2048] = {0};
    struct iphdr *ip = (struct iphdr *)packet;
    struct udphdr *udp = (struct udphdr *)(packet + sizeof *ip);
    int total = sizeof *ip + sizeof *udp + length;
    *ip = (struct iphdr){.version = 4, .ihl = 5, .tot_len = htons(total), .ttl = 64, .protocol = IPPROTO_UDP,
                         .saddr = source, .daddr = target.sin_addr.s_addr};
    udp->source = htons(port);
    udp->dest = target.sin_port;
    udp->len = htons(sizeof *udp + length);
    memcpy(packet + sizeof *ip + sizeof *udp, payload, length);
    struct sockaddr_in to = target;
    to.sin_port = 0;
    sendto(raw, packet, total, 0, (struct sockaddr *)&to, sizeof to);
}

static void put16(uint8_t *at, int value) {
    at[0] = value >> 8;
    at[1] = value;
}

static void put24(uint8_t *at, int value) {
    at[0] = value >> 16;
    put16(at + 1, value);
}

struct attempt {
    int socket;
    uint8_t hello[2048];
};

/* Returns the cookie of an attempt's HelloVerifyRequest; the handshake is then left open. */
static void send_cookie(struct attempt *a) {
    uint8_t reply[2048], second[2304];
    int n = recv(a->socket, reply, sizeof reply, MSG_DONTWAIT);
    // HelloVerifyRequest: handshake type 3, version, cookie length, cookie.
    if (n < RECORD_HEADER + HANDSHAKE_HEADER + 3 || reply[0] != 22 || reply[RECORD_HEADER] != 3) return;
    int cookie = reply[RECORD_HEADER + HANDSHAKE_HEADER + 2];
    if (n < RECORD_HEADER + HANDSHAKE_HEADER + 3 + cookie) return;
    int at = RANDOM_AT + 32 + 1 + a->hello[RANDOM_AT + 32];  // the cookie's length byte, after the session id
    memcpy(second, a->hello, at);
    second[at] = cookie;
    memcpy(second + at + 1, reply + RECORD_HEADER + HANDSHAKE_HEADER + 3, cookie);
    memcpy(second + at + 1 + cookie, a->hello + at + 1, hello_length - at - 1);
    int length = hello_length + cookie, body = length - RECORD_HEADER - HANDSHAKE_HEADER;
    second[RECORD_HEADER - 3] = 1;                // record sequence number 1
    put16(second + 11, body + HANDSHAKE_HEADER);  // record length
    put24(second + RECORD_HEADER + 1, body);      // message length
    put16(second + RECORD_HEADER + 4, 1);         // message_seq 1
    put24(second + RECORD_HEADER + 9, body);      // fragment length
    send(a->socket, second, length, 0);
    sent[4]++;
}

/* Continues an earlier attempt, and starts another one from a new address. Never waits. */
static void half_open(void) {
    static struct attempt ring[RING];
    static int next;
    send_cookie(&ring[(next + RING / 2) % RING]);
    struct attempt *a = &ring[next];
    next = (next + 1) % RING;
    if (a->socket) close(a->socket);
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = some_address()};
    a->socket = socket(AF_INET, SOCK_DGRAM, 0);
    if (a->socket < 0 || bind(a->socket, (struct sockaddr *)&from, sizeof from) < 0 ||
        connect(a->socket, (struct sockaddr *)&target, sizeof target) < 0)
        return;
    memcpy(a->hello, hello, hello_length);
    randomise(a->hello + RANDOM_AT, 32);
    send(a->socket, a->hello, hello_length, 0);
}

static void one(int kind) {
    static uint8_t bytes[1500];
    int length = 1 + lrand48() % 1400, port = 1024 + lrand48() % 60000;
    switch (kind) {
    case 0:
        randomise(bytes, length);
        send_raw(some_address(), port, bytes, length);
        break;
    case 1: {
        static const uint8_t header[] = {23, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9};
        memcpy(bytes, header, sizeof header);
        bytes[0] = 20 + lrand48() % 5;
        put16(bytes + 11, length > 13 ? length - 13 : 7);
        send_raw(some_address(), port, bytes, length);
        break;
    }
    case 2:
        memcpy(bytes, hello, hello_length);
        randomise(bytes + RANDOM_AT, 32);
        send_raw(some_address(), 0, bytes, hello_length);
        break;
    case 3:
        memcpy(bytes, hello, hello_length);
        randomise(bytes + RANDOM_AT, 32);
        send_raw(some_address(), port, bytes, hello_length);
        break;
    default: half_open(); return;
    }
    sent[kind]++;
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: flood PORT SECONDS RATE HELLO_FILE\n");
        return 2;
    }
    target = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    target.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    double seconds = atof(argv[2]), rate = atof(argv[3]);
    FILE *file = fopen(argv[4], "rb");
    hello_length = file ? fread(hello, 1, 1400, file) : 0;
    raw = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
    if (hello_length < RANDOM_AT + 34 || raw < 0) {
        perror(raw < 0 ? "raw socket" : argv[4]);
        return 1;
    }
    srand48(1);
    double start = now();
    for (long n = 0;; n++) {
        double t = now() - start, due = n / rate;
        if (t > seconds) break;
        if (due > t) {
            struct timespec pause = {0, (long)((due - t) * 1e9) % 999999999};
            nanosleep(&pause, NULL);
        }
        one(n % 40 == 39 ? 4 : n % 4);  // a half-open handshake costs the gateway a thousand times a garbage datagram
    }
    for (int i = 0; i < KINDS; i++) printf("%s %ld%s", names[i], sent[i], i + 1 < KINDS ? ", " : "\n");
}
