// link: a slow, lossy link with a queue between two network namespaces, for kernels without netem. Requires root.
//
//   link NAMESPACE_A NAMESPACE_B RATE_MBIT DELAY_MS LOSS_PERCENT QUEUE_KB [SEED]
//
// Each side has a TUN device `line` (10.97.0.1 in A, 10.97.0.2 in B). Each direction has its own drop-tail queue of
// QUEUE_KB in front of a wire of RATE_MBIT. A packet that leaves the wire is lost with a probability of LOSS_PERCENT,
// or arrives DELAY_MS later. The program prints "up"; on SIGTERM it prints its counters and exits.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

typedef int64_t nanoseconds;
enum { PACKET = 1600, SLOTS = 1 << 14, BATCH = 32 };

struct packet {
    nanoseconds arrives;
    int length;
    uint8_t bytes[PACKET];
};

struct direction {
    int in, out;
    nanoseconds wire_free;       // time at which the wire has sent all queued packets
    unsigned first, end;         // ring positions; packets arrive in the order of sending
    struct packet *ring;
    long carried, lost, overflowed;
};

static double loss, bytes_per_second, queue_bytes;
static nanoseconds delay;
static volatile sig_atomic_t ended;

static void end(int number) {
    (void)number;
    ended = 1;
}

static nanoseconds now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int attach(const char *name, const char *address) {
    char text[256];
    snprintf(text, sizeof text, "/run/netns/%s", name);
    int space = open(text, O_RDONLY);
    if (space < 0 || setns(space, CLONE_NEWNET) < 0) fail(text);
    close(space);
    int device = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
    if (device < 0) fail("/dev/net/tun");
    struct ifreq request = {.ifr_name = "line", .ifr_flags = IFF_TUN | IFF_NO_PI};
    if (ioctl(device, TUNSETIFF, &request) < 0) fail("TUNSETIFF");
    snprintf(text, sizeof text,
             "ip address add %s/24 dev line && ip link set line up txqueuelen 1000 && ip link set lo up", address);
    if (system(text) != 0) fail("ip");
    return device;
}

/* Reads packets from the sender's device, and queues, drops or loses them. */
static void enqueue(struct direction *d) {
    uint8_t bytes[PACKET];
    for (int i = 0; i < BATCH; i++) {
        int length = read(d->in, bytes, sizeof bytes);
        if (length <= 0) return;
        nanoseconds t = now();
        if (d->wire_free < t) d->wire_free = t;
        double queued = (d->wire_free - t) / 1e9 * bytes_per_second;
        if (queued + length > queue_bytes || d->end - d->first == SLOTS) {
            d->overflowed++;
            continue;
        }
        d->wire_free += (nanoseconds)(length / bytes_per_second * 1e9);
        if (drand48() < loss) {
            d->lost++;
            continue;
        }
        struct packet *p = &d->ring[d->end++ % SLOTS];
        p->arrives = d->wire_free + delay;
        p->length = length;
        memcpy(p->bytes, bytes, length);
    }
}

/* Delivers packets that have arrived. Returns the arrival of the next one, at the latest `latest`. */
static nanoseconds deliver(struct direction *d, nanoseconds latest) {
    for (; d->first != d->end; d->first++) {
        struct packet *p = &d->ring[d->first % SLOTS];
        if (p->arrives > now()) return p->arrives < latest ? p->arrives : latest;
        if (write(d->out, p->bytes, p->length) == p->length) d->carried++;
    }
    return latest;
}

int main(int argc, char **argv) {
    if (argc < 7) {
        fprintf(stderr, "usage: link NAMESPACE_A NAMESPACE_B RATE_MBIT DELAY_MS LOSS_PERCENT QUEUE_KB [SEED]\n");
        return 2;
    }
    bytes_per_second = atof(argv[3]) * 125000;
    delay = (nanoseconds)(atof(argv[4]) * 1e6);
    loss = atof(argv[5]) / 100;
    queue_bytes = atof(argv[6]) * 1000;
    srand48(argc > 7 ? atol(argv[7]) : 1);
    int a = attach(argv[1], "10.97.0.1"), b = attach(argv[2], "10.97.0.2");
    struct direction directions[2] = {{.in = a, .out = b}, {.in = b, .out = a}};
    for (int i = 0; i < 2; i++)
        if (!(directions[i].ring = malloc(SLOTS * sizeof(struct packet)))) fail("malloc");
    signal(SIGTERM, end);
    signal(SIGINT, end);
    puts("up");
    fflush(stdout);
    while (!ended) {
        nanoseconds wake = now() + 10000000;
        for (int i = 0; i < 2; i++) {
            enqueue(&directions[i]);
            wake = deliver(&directions[i], wake);
        }
        nanoseconds wait = wake - now();
        if (wait > 0) {
            struct timespec timeout = {0, wait};
            struct pollfd polled[2] = {{a, POLLIN, 0}, {b, POLLIN, 0}};
            ppoll(polled, 2, &timeout, NULL);
        }
    }
    for (int i = 0; i < 2; i++)
        printf("%s: %ld carried, %ld lost, %ld over the queue\n", i ? "B to A" : "A to B", directions[i].carried,
               directions[i].lost, directions[i].overflowed);
}
