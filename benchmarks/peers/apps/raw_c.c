/*
 * raw_c - the simplest fan-out server there is, to learn what this machine's
 * kernel can do: it write()s one pre-encoded event to every subscriber's
 * socket.  One thread, epoll, no framework, no queues.
 *
 *   gcc -O2 -Wall -o raw_c raw_c.c
 *   ./raw_c PORT [congestion-control]
 *
 *   GET  /events          subscribe
 *   POST /pub             the body becomes one event for every subscriber
 *   POST /blast?m=M&b=B   the server makes M events itself, B of them per
 *                         write() and subscriber (b=1: one syscall an event)
 *
 * Events are `id: 0000001\ndata: <100 bytes>\n\n` = 120 bytes.
 * A full socket buffer is waited for (poll), so nothing is lost.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAXFD 65536
struct c { int sub; size_t len; char *buf; };
static struct c cs[MAXFD];
static int subs[MAXFD], nsubs, pos[MAXFD];
static unsigned long seq;
#define IN 8192

static void drop(int fd) {
    if (cs[fd].sub) { int p = pos[fd]; subs[p] = subs[--nsubs]; pos[subs[p]] = p; }
    free(cs[fd].buf); memset(&cs[fd], 0, sizeof cs[fd]); close(fd);
}
static int put(int fd, const char *b, size_t n) {
    while (n) {
        ssize_t w = send(fd, b, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (w < 0) {
            if (errno != EAGAIN && errno != EINTR) return -1;
            struct pollfd p = { .fd = fd, .events = POLLOUT };
            if (poll(&p, 1, 5000) <= 0) return -1;
            continue;
        }
        b += w; n -= w;
    }
    return 0;
}
static void all(const char *b, size_t n) {
    for (int i = nsubs - 1; i >= 0; i--) if (put(subs[i], b, n)) drop(subs[i]);
}
static long arg(const char *req, const char *k, long d) {
    const char *p = strstr(req, k); return p ? atol(p + strlen(k)) : d;
}
static void request(int fd, char *req, char *bodyp, size_t bl) {
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n";
    static const char no[] = "HTTP/1.1 204 No Content\r\n\r\n", nf[] = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    static char out[1 << 20];
    if (!strncmp(req, "GET /events", 11)) {
        put(fd, head, sizeof head - 1); cs[fd].sub = 1; pos[fd] = nsubs; subs[nsubs++] = fd;
    } else if (!strncmp(req, "POST /pub", 9)) {
        size_t n = sprintf(out, "id: %07lu\ndata: ", seq++ % 10000000);
        memcpy(out + n, bodyp, bl); n += bl; out[n++] = '\n'; out[n++] = '\n';
        all(out, n); put(fd, no, sizeof no - 1);
    } else if (!strncmp(req, "POST /blast", 11)) {
        long m = arg(req, "m=", 1), b = arg(req, "b=", 1);
        for (long i = 0; i < m; i += b) {
            size_t n = 0;
            for (long j = i; j < m && j < i + b; j++) {
                char msg[128]; struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t);
                int k = sprintf(msg, "{\"n\":%ld,\"t\":%lld,\"p\":\"", j, t.tv_sec * 1000000000LL + t.tv_nsec);
                memset(msg + k, 'x', 98 - k); memcpy(msg + 98, "\"}", 3);
                n += sprintf(out + n, "id: %07lu\ndata: %s\n\n", seq++ % 10000000, msg);
            }
            all(out, n);
        }
        put(fd, no, sizeof no - 1);
    } else put(fd, nf, sizeof nf - 1);
}
static void readable(int fd) {
    struct c *c = &cs[fd];
    if (!c->buf) c->buf = malloc(IN);
    ssize_t n = recv(fd, c->buf + c->len, IN - 1 - c->len, 0);
    if (n <= 0) { if (n < 0 && errno == EAGAIN) return; drop(fd); return; }
    c->len += n; c->buf[c->len] = 0;
    for (;;) {
        char *e = strstr(c->buf, "\r\n\r\n");
        if (!e) break;
        *e = 0; char *cl = strcasestr(c->buf, "\r\ncontent-length:");
        size_t bl = cl ? strtoul(cl + 17, 0, 10) : 0, tot = (e + 4 - c->buf) + bl;
        if (c->len < tot) { *e = '\r'; break; }
        request(fd, c->buf, e + 4, bl);
        if (!c->buf) return;
        memmove(c->buf, c->buf + tot, c->len - tot); c->len -= tot; c->buf[c->len] = 0;
    }
    if (c->sub && !c->len) { free(c->buf); c->buf = 0; }
    if (c->len >= IN - 1) drop(fd);
}
int main(int argc, char **argv) {
    if (argc < 2) return 1;
    signal(SIGPIPE, SIG_IGN);
    struct rlimit r; getrlimit(RLIMIT_NOFILE, &r); r.rlim_cur = r.rlim_max; setrlimit(RLIMIT_NOFILE, &r);
    int one = 1, l = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (argc > 2 && setsockopt(l, IPPROTO_TCP, TCP_CONGESTION, argv[2], strlen(argv[2]))) perror("congestion");
    if (bind(l, (void *)&a, sizeof a) || listen(l, 4096)) { perror("listen"); return 1; }
    int ep = epoll_create1(0); struct epoll_event ev = { .events = EPOLLIN, .data.fd = l }, evs[256];
    epoll_ctl(ep, EPOLL_CTL_ADD, l, &ev);
    for (;;) {
        int n = epoll_wait(ep, evs, 256, -1);
        for (int i = 0; i < n; i++) {
            if (evs[i].data.fd != l) { readable(evs[i].data.fd); continue; }
            int fd;
            while ((fd = accept4(l, 0, 0, SOCK_NONBLOCK)) >= 0) {
                if (fd >= MAXFD) { close(fd); continue; }
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                ev.events = EPOLLIN; ev.data.fd = fd; epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
            }
        }
    }
}
