// relay: simulates a faulty network for UDP between an agent and a gateway.
//
//   relay LISTEN_PORT TARGET_PORT SEED
//
// Both ports are on 127.0.0.1; the program prints "up PORT". Every client has a separate socket towards the target.
// Commands are lines on standard input and take effect at once. P is a percentage that applies to each datagram in both
// directions independently:
//   loss P | reorder P MS | duplicate P | corrupt P | delay MS
//   blackhole on|off          drops all datagrams
//   rebind                    gives clients new sockets towards the target, as a NAT does that has lost its mappings
//   stats                     prints one line of counters
// The program exits at the end of standard input.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CLIENTS = 256, HELD = 1 << 16, DATAGRAM = 65536, BURST = 128 };

struct client {
    struct sockaddr_in address;
    int socket;
};

struct held {
    double due;
    int client, to_target, length;
    uint8_t *bytes;
};

static struct client clients[CLIENTS];
static int client_count, listener;
static struct sockaddr_in target;
static struct held heap[HELD];
static int heap_count, blackhole;
static double loss, reorder, reorder_delay, duplicate, corrupt, delay;
static long passed, lost, reordered, duplicated, corrupted, swallowed;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static int chance(double share) { return share > 0 && drand48() < share; }

static int udp_socket(void) {
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), size = 4 << 20;
    if (s < 0) {
        perror("socket");
        exit(1);
    }
    setsockopt(s, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    setsockopt(s, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    return s;
}

static int client_of(const struct sockaddr_in *address) {
    for (int i = 0; i < client_count; i++)
        if (clients[i].address.sin_port == address->sin_port &&
            clients[i].address.sin_addr.s_addr == address->sin_addr.s_addr)
            return i;
    if (client_count == CLIENTS) return -1;
    clients[client_count] = (struct client){*address, udp_socket()};
    if (connect(clients[client_count].socket, (struct sockaddr *)&target, sizeof target) < 0) perror("connect");
    return client_count++;
}

static void deliver(int client, int to_target, const uint8_t *bytes, int length) {
    if (to_target)
        send(clients[client].socket, bytes, length, 0);
    else
        sendto(listener, bytes, length, 0, (struct sockaddr *)&clients[client].address, sizeof target);
    passed++;
}

static void swap_held(int a, int b) {
    struct held t = heap[a];
    heap[a] = heap[b];
    heap[b] = t;
}

static void hold(int client, int to_target, const uint8_t *bytes, int length, double due) {
    if (heap_count == HELD) {
        lost++;
        return;
    }
    heap[heap_count] = (struct held){due, client, to_target, length, malloc(length)};
    memcpy(heap[heap_count].bytes, bytes, length);
    for (int i = heap_count++; i > 0 && heap[i].due < heap[(i - 1) / 2].due; i = (i - 1) / 2)
        swap_held(i, (i - 1) / 2);
}

static void release_due(double t) {
    while (heap_count && heap[0].due <= t) {
        struct held first = heap[0];
        heap[0] = heap[--heap_count];
        for (int i = 0;;) {
            int child = 2 * i + 1;
            if (child + 1 < heap_count && heap[child + 1].due < heap[child].due) child++;
            if (child >= heap_count || heap[i].due <= heap[child].due) break;
            swap_held(i, child);
            i = child;
        }
        deliver(first.client, first.to_target, first.bytes, first.length);
        free(first.bytes);
    }
}

static void carry(int client, int to_target, uint8_t *bytes, int length) {
    if (blackhole) {
        swallowed++;
        return;
    }
    if (chance(loss)) {
        lost++;
        return;
    }
    if (length > 0 && chance(corrupt)) {
        bytes[lrand48() % length] ^= 1 << (lrand48() & 7);
        corrupted++;
    }
    double t = now(), due = t + delay;
    int copies = 1;
    if (chance(duplicate)) {
        copies = 2;
        duplicated++;
    }
    if (chance(reorder)) {
        due += reorder_delay * drand48();
        reordered++;
    }
    for (; copies > 0; copies--, due += 0.001)
        if (due <= t)
            deliver(client, to_target, bytes, length);
        else
            hold(client, to_target, bytes, length, due);
}

static void command(char *line) {
    double a = 0, b = 0;
    char word[16];
    if (sscanf(line, "loss %lf", &a) == 1) loss = a / 100;
    else if (sscanf(line, "reorder %lf %lf", &a, &b) == 2) reorder = a / 100, reorder_delay = b / 1e3;
    else if (sscanf(line, "duplicate %lf", &a) == 1) duplicate = a / 100;
    else if (sscanf(line, "corrupt %lf", &a) == 1) corrupt = a / 100;
    else if (sscanf(line, "delay %lf", &a) == 1) delay = a / 1e3;
    else if (sscanf(line, "blackhole %15s", word) == 1) blackhole = strcmp(word, "on") == 0;
    else if (strncmp(line, "rebind", 6) == 0) {
        for (int i = 0; i < client_count; i++) {
            close(clients[i].socket);
            clients[i].socket = udp_socket();
            if (connect(clients[i].socket, (struct sockaddr *)&target, sizeof target) < 0) perror("connect");
        }
    } else if (strncmp(line, "stats", 5) == 0) {
        printf("passed %ld lost %ld reordered %ld duplicated %ld ", passed, lost, reordered, duplicated);
        printf("corrupted %ld swallowed %ld\n", corrupted, swallowed);
        fflush(stdout);
        return;
    }
    printf("ok\n");
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: relay LISTEN_PORT TARGET_PORT SEED\n");
        return 2;
    }
    srand48(atol(argv[3]));
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    target = here;
    target.sin_port = htons(atoi(argv[2]));
    listener = udp_socket();
    if (bind(listener, (struct sockaddr *)&here, sizeof here) < 0) {
        perror("bind");
        return 1;
    }
    socklen_t size = sizeof here;
    getsockname(listener, (struct sockaddr *)&here, &size);
    printf("up %d\n", ntohs(here.sin_port));
    fflush(stdout);

    static uint8_t bytes[DATAGRAM];
    static struct pollfd polled[CLIENTS + 2];
    for (;;) {
        polled[0] = (struct pollfd){STDIN_FILENO, POLLIN, 0};
        polled[1] = (struct pollfd){listener, POLLIN, 0};
        for (int i = 0; i < client_count; i++) polled[2 + i] = (struct pollfd){clients[i].socket, POLLIN, 0};
        int watched = client_count;
        double wait = heap_count ? heap[0].due - now() : 1;
        if (wait < 0) wait = 0;
        struct timespec timeout = {(time_t)wait, (long)((wait - (time_t)wait) * 1e9)};
        ppoll(polled, 2 + watched, &timeout, NULL);

        if (polled[0].revents) {
            static char pending[4096];
            static int filled;
            int n = read(STDIN_FILENO, pending + filled, sizeof pending - 1 - filled);
            if (n <= 0) return 0;
            filled += n;
            pending[filled] = 0;
            char *start = pending, *end;
            while ((end = strchr(start, '\n'))) {
                *end = 0;
                command(start);
                start = end + 1;
            }
            filled = strlen(start);
            memmove(pending, start, filled);
        }
        if (polled[1].revents)
            for (int i = 0; i < BURST; i++) {
                struct sockaddr_in from;
                size = sizeof from;
                int n = recvfrom(listener, bytes, sizeof bytes, 0, (struct sockaddr *)&from, &size);
                if (n < 0) break;
                int client = client_of(&from);
                if (client >= 0) carry(client, 1, bytes, n);
            }
        for (int c = 0; c < watched; c++)
            if (polled[2 + c].revents)
                for (int i = 0; i < BURST; i++) {
                    int n = recv(clients[c].socket, bytes, sizeof bytes, 0);
                    // If the target is down, its ICMP error is reported here once. It is ignored, as a network does.
                    if (n < 0) break;
                    carry(c, 0, bytes, n);
                }
        release_due(now());
    }
}
