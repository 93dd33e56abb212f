/*
 * sseload - single-threaded epoll load client for Server-Sent-Events servers.
 *
 *   gcc -O2 -Wall -o sseload sseload.c
 *
 * It opens N subscriptions, waits until every one has its response headers,
 * prints READY on stderr, then - depending on --mode - publishes messages
 * itself (fanout), waits for someone else's (listen), just sits there (idle),
 * or stops (ramp).  One JSON object on stdout at the end.
 *
 * What it checks on every single connection: HTTP status, chunked framing,
 * event framing (\n, \r\n and \r), and for data holding "n":<seq> that each
 * sequence number arrives exactly once and in order.  "t":<ns> in the data
 * gives the end-to-end latency (CLOCK_MONOTONIC, or CLOCK_REALTIME when the
 * number is that large).
 *
 * See README.md for the options; `sseload --help` lists them.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_ 1024   /* part of a line kept when it spans two reads      */
#define RBUF (256 * 1024)
#define BATCH 64         /* epoll events per call: keeps the publisher prompt */
#define MAXPID 64
#define NS 1000000000ULL

/* ---------------------------------------------------------------- options */
static struct {
    const char *host, *path, *paths_file, *mode, *ready, *label;
    const char *pub_host, *pub_path, *pub_method, *pub_body;
    int port, conns, ramp_conc, settle_ms, payload, pub_port, pub_conns, cpu;
    long msgs, pub_requests, base;
    double ramp_timeout, timeout, grace, duration, rate;
    int count_all;
    char hdrs[4096], pub_hdrs[4096];
    pid_t pids[MAXPID];
    int npids;
} o = {
    .host = "127.0.0.1", .path = "/events", .mode = "fanout", .ready = "headers",
    .label = "", .pub_path = "/pub", .pub_method = "POST", .pub_body = "%MSG%",
    .conns = 1, .ramp_conc = 64, .settle_ms = 500, .payload = 100, .pub_conns = 1,
    .cpu = -1, .msgs = 100, .pub_requests = -1, .ramp_timeout = 60, .timeout = 60,
    .grace = 5, .duration = 10, .rate = 0,
};

/* ------------------------------------------------------------------- state */
enum { C_CONNECTING, C_STATUS, C_HEADERS, C_BODY, C_DEAD };
enum { K_SIZE, K_EXT, K_DATA, K_CRLF, K_END };

struct conn {
    int fd, idx;
    uint8_t st, chunked, kst, skip_lf, has_data, ready, trunc;
    uint16_t lblen;
    uint64_t kleft;
    int64_t ev_n, ev_t;      /* of the event being assembled, -1 = none */
    int64_t last_n, first_n; /* first_n: what it must get first         */
    uint32_t got;            /* distinct numbered events                */
    char lb[LINE_MAX_];
};

static struct conn *conns;
static char **paths, **seen; /* by connection, from --paths               */
static long *firsts;
static uint64_t expected;    /* events, over all connections              */
static int ep;
static char rbuf[RBUF];
static uint64_t *bitmap;     /* conns * msgs bits: seen sequence numbers   */
static size_t bm_words;

static struct {
    int started, ready, failed, closed_early, bad_status, bad_ctype;
    uint64_t unique, dup, ooo, unnumbered, out_of_range, bytes, recvs, bad_frame;
    uint64_t first_ev, last_ev, t0, ready_ns;
    uint64_t lat_n, lat_sum, lat_max, lat_neg;
    int first_bad_status;
} S;

/* log-linear histogram: 1/128 relative resolution, fixed memory */
#define HSUB 7
static uint32_t hist[64 << HSUB];
static inline void hist_add(uint64_t v) {
    unsigned e = v < (1u << HSUB) ? 0 : 63 - __builtin_clzll(v) - HSUB + 1;
    uint64_t m = e ? (v >> (e - 1)) & ((1u << HSUB) - 1) : v;
    hist[((uint64_t)e << HSUB) | m]++;
}
static double hist_q(double q) {
    if (!S.lat_n) return 0;
    uint64_t want = (uint64_t)(q * S.lat_n + 0.5), acc = 0;
    if (want < 1) want = 1;
    if (want > S.lat_n) want = S.lat_n;
    for (size_t i = 0; i < sizeof hist / sizeof *hist; i++) {
        acc += hist[i];
        if (acc >= want) {
            unsigned e = i >> HSUB;
            uint64_t m = i & ((1u << HSUB) - 1);
            double lo = e ? (double)((m | (1u << HSUB)) * (1ULL << (e - 1))) : (double)m;
            double w = e ? (double)(1ULL << (e - 1)) : 1;
            double v = lo + w / 2;
            return v > S.lat_max ? (double)S.lat_max : v;
        }
    }
    return (double)S.lat_max;
}

static inline uint64_t now_mono(void) {
    struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * NS + t.tv_nsec;
}
static inline uint64_t now_real(void) {
    struct timespec t; clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec * NS + t.tv_nsec;
}
static void die(const char *f, ...) {
    va_list a; va_start(a, f); fprintf(stderr, "sseload: "); vfprintf(stderr, f, a);
    fprintf(stderr, "\n"); va_end(a); exit(3);
}

/* ----------------------------------------------------- CPU and memory probes */
static double pid_cpu(pid_t p) {       /* whole process, ns resolution */
    clockid_t c; struct timespec t;
    if (clock_getcpuclockid(p, &c) || clock_gettime(c, &t)) return -1;
    return t.tv_sec + t.tv_nsec / 1e9;
}
static void pid_ticks(pid_t p, double *ut, double *st) {
    char f[64], b[2048]; snprintf(f, sizeof f, "/proc/%d/stat", p);
    FILE *h = fopen(f, "r"); if (!h) return;
    size_t n = fread(b, 1, sizeof b - 1, h); b[n] = 0; fclose(h);
    char *e = strrchr(b, ')'); if (!e) return;
    unsigned long u = 0, s = 0;
    if (sscanf(e + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &u, &s) == 2) {
        double hz = sysconf(_SC_CLK_TCK); *ut += u / hz; *st += s / hz;
    }
}
static long proc_kb(pid_t p, const char *file, const char *key) {
    char f[64], l[256]; long v = 0; snprintf(f, sizeof f, "/proc/%d/%s", p, file);
    FILE *h = fopen(f, "r"); if (!h) return 0;
    size_t kl = strlen(key);
    while (fgets(l, sizeof l, h)) if (!strncmp(l, key, kl)) { v = atol(l + kl); break; }
    fclose(h); return v;
}
static double cpu_busy(int cpu) {      /* busy seconds of one core, or of all */
    char l[512], key[16]; double r = 0;
    FILE *h = fopen("/proc/stat", "r"); if (!h) return 0;
    if (cpu < 0) strcpy(key, "cpu "); else snprintf(key, sizeof key, "cpu%d ", cpu);
    while (fgets(l, sizeof l, h)) if (!strncmp(l, key, strlen(key))) {
        unsigned long u, n, s, i, w, q, sq, stl;
        if (sscanf(l + strlen(key), "%lu %lu %lu %lu %lu %lu %lu %lu", &u, &n, &s, &i, &w, &q, &sq, &stl) == 8)
            r = (u + n + s + q + sq + stl) / (double)sysconf(_SC_CLK_TCK);
        break;
    }
    fclose(h); return r;
}
static long sock_mem_kb(void) {        /* kernel TCP buffers, whole machine */
    char l[256]; long pages = 0; FILE *h = fopen("/proc/net/sockstat", "r"); if (!h) return 0;
    while (fgets(l, sizeof l, h)) { char *m = !strncmp(l, "TCP:", 4) ? strstr(l, " mem ") : 0; if (m) pages = atol(m + 5); }
    fclose(h); return pages * (sysconf(_SC_PAGESIZE) / 1024);
}
struct probe { double wall, scpu, sut, sst, ccpu, core, all; long rss, pss, hwm, tcp; };
static void probe(struct probe *p) {
    memset(p, 0, sizeof *p);
    p->wall = now_mono() / 1e9;
    for (int i = 0; i < o.npids; i++) {
        double c = pid_cpu(o.pids[i]);
        if (c > 0) p->scpu += c;
        pid_ticks(o.pids[i], &p->sut, &p->sst);
        p->rss += proc_kb(o.pids[i], "status", "VmRSS:");
        p->hwm += proc_kb(o.pids[i], "status", "VmHWM:");
        p->pss += proc_kb(o.pids[i], "smaps_rollup", "Pss:");
    }
    p->core = o.cpu >= 0 ? cpu_busy(o.cpu) : 0;
    p->all = cpu_busy(-1);
    p->tcp = sock_mem_kb();
    struct rusage r; getrusage(RUSAGE_SELF, &r);
    p->ccpu = r.ru_utime.tv_sec + r.ru_stime.tv_sec + (r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}
static void reset_hwm(void) {
    for (int i = 0; i < o.npids; i++) {
        char f[64]; snprintf(f, sizeof f, "/proc/%d/clear_refs", o.pids[i]);
        FILE *h = fopen(f, "w"); if (h) { fputs("5", h); fclose(h); }
    }
}

/* -------------------------------------------------------------- SSE parsing */
/* find  n : <int>  or  t : <int>  with any quoting ("n", 'n', \"n\") */
static int64_t find_num(const char *s, size_t n, char key) {
    const char *e = s + n, *p = s;
    while (p < e && (p = memchr(p, key, e - p))) {
        const char *q = p++;
        if (q == s || (q[-1] != '"' && q[-1] != '\'')) continue;
        const char *r = q + 1;
        if (r < e && *r == '\\') r++;
        if (r >= e || (*r != '"' && *r != '\'')) continue;
        r++;
        while (r < e && *r == ' ') r++;
        if (r >= e || *r != ':') continue;
        r++;
        while (r < e && (*r == ' ' || *r == '"')) r++;
        if (r >= e || *r < '0' || *r > '9') continue;
        int64_t v = 0;
        while (r < e && *r >= '0' && *r <= '9') v = v * 10 + (*r++ - '0');
        return v;
    }
    return -1;
}

static inline void dispatch(struct conn *c, uint64_t now) {
    if (c->ev_n < 0 && !o.count_all) { S.unnumbered++; return; }
    if (o.base && (c->ev_n -= o.base) < 0) { S.out_of_range++; return; }    /* of another publisher */
    if (c->ev_n >= 0 && c->ev_n < c->first_n) { S.dup++; return; }         /* it had that one */
    if (!S.first_ev) S.first_ev = now;
    S.last_ev = now;
    if (c->ev_n >= 0) {
        if (bitmap) {
            if (c->ev_n >= o.msgs) { S.out_of_range++; return; }
            uint64_t *w = bitmap + (size_t)c->idx * bm_words + (c->ev_n >> 6), b = 1ULL << (c->ev_n & 63);
            if (*w & b) { S.dup++; return; }
            *w |= b;
        }
        if (c->ev_n < c->last_n) S.ooo++; else c->last_n = c->ev_n;
    } else S.unnumbered++;
    c->got++; S.unique++;
    if (c->ev_t > 0) {
        uint64_t base = c->ev_t > 100000000000000000LL ? now_real() : now;
        if (base < (uint64_t)c->ev_t) { S.lat_neg++; hist_add(0); S.lat_n++; }
        else {
            uint64_t d = base - c->ev_t;
            hist_add(d); S.lat_n++; S.lat_sum += d; if (d > S.lat_max) S.lat_max = d;
        }
    }
}

static inline void sse_line(struct conn *c, const char *s, size_t n, uint64_t now) {
    if (!n) {
        if (c->has_data) dispatch(c, now);
        c->has_data = 0; c->ev_n = c->ev_t = -1;
        return;
    }
    if (s[0] == 'd' && n >= 4 && !memcmp(s, "data", 4) && (n == 4 || s[4] == ':')) {
        c->has_data = 1;
        if (n > 5) {
            if (c->ev_n < 0) c->ev_n = find_num(s + 5, n - 5, 'n');
            if (c->ev_t < 0) c->ev_t = find_num(s + 5, n - 5, 't');
        }
    }
}

/* split [p,e) of the event stream into lines (\n, \r\n or \r); what is left of
 * an unfinished last line is kept in c->lb */
static void split_lines(struct conn *c, const char *p, const char *e, uint64_t now) {
    while (p < e) {
        if (c->skip_lf) { c->skip_lf = 0; if (*p == '\n') { p++; continue; } }
        const char *nl = memchr(p, '\n', e - p);
        const char *cr = memchr(p, '\r', (nl ? nl : e) - p);
        const char *end = cr ? cr : nl;
        size_t ln = (end ? end : e) - p, room = LINE_MAX_ - c->lblen;
        if (!end) {
            if (ln > room) { ln = room; c->trunc = 1; }
            memcpy(c->lb + c->lblen, p, ln); c->lblen += ln;
            return;
        }
        const char *ls = p;
        if (c->lblen) {
            if (ln > room) { ln = room; c->trunc = 1; }
            memcpy(c->lb + c->lblen, p, ln);
            ls = c->lb; ln += c->lblen; c->lblen = 0;
        }
        p = end + 1;
        if (*end == '\r') { if (p < e) { if (*p == '\n') p++; } else c->skip_lf = 1; }
        sse_line(c, ls, ln, now);
    }
}

static void conn_ready(struct conn *c) {
    if (!c->ready) { c->ready = 1; S.ready++; S.ready_ns = now_mono(); }
}

static void header_line(struct conn *c, char *s, size_t n) {
    if (c->st == C_STATUS) {
        int code = 0;
        if (sscanf(s, "HTTP/1.%*d %d", &code) != 1 || code != 200) {
            S.bad_status++;
            if (!S.first_bad_status) {
                S.first_bad_status = code;
                fprintf(stderr, "sseload: connection %d answered: %s\n", c->idx, s);
            }
        }
        c->st = C_HEADERS; return;
    }
    if (n == 0) { c->st = C_BODY; c->kst = K_SIZE; c->kleft = 0; conn_ready(c); return; }
    if (!strncasecmp(s, "transfer-encoding:", 18) && strcasestr(s + 18, "chunked")) c->chunked = 1;
    if (!strncasecmp(s, "content-type:", 13) && !strcasestr(s + 13, "text/event-stream")) S.bad_ctype++;
}

/* feed bytes of the response header; returns where the body starts (or e) */
static const char *headers(struct conn *c, const char *p, const char *e) {
    while (p < e && c->st != C_BODY) {
        const char *nl = memchr(p, '\n', e - p), *end = nl ? nl : e;
        size_t n = end - p, room = LINE_MAX_ - 1 - c->lblen;
        if (n > room) n = room;
        memcpy(c->lb + c->lblen, p, n); c->lblen += n;
        p = nl ? nl + 1 : e;
        if (!nl) break;
        if (c->lblen && c->lb[c->lblen - 1] == '\r') c->lblen--;
        c->lb[c->lblen] = 0;
        n = c->lblen; c->lblen = 0;
        header_line(c, c->lb, n);
    }
    return p;
}

static void conn_end(struct conn *c, int early) {
    if (c->st == C_DEAD) return;
    if (early) { if (c->ready) S.closed_early++; else S.failed++; }
    c->st = C_DEAD; close(c->fd); c->fd = -1;
}

static void body(struct conn *c, const char *p, const char *e, uint64_t now) {
    if (!c->chunked) { split_lines(c, p, e, now); return; }
    while (p < e) switch (c->kst) {
        case K_SIZE: {
            char ch = *p++; int d = -1;
            if (ch >= '0' && ch <= '9') d = ch - '0';
            else if ((ch | 32) >= 'a' && (ch | 32) <= 'f') d = (ch | 32) - 'a' + 10;
            if (d >= 0) c->kleft = c->kleft * 16 + d;
            else if (ch == ';') c->kst = K_EXT;
            else if (ch == '\n') c->kst = c->kleft ? K_DATA : K_END;
            else if (ch != '\r' && ch != ' ') S.bad_frame++;
            break; }
        case K_EXT: if (*p++ == '\n') c->kst = c->kleft ? K_DATA : K_END; break;
        case K_DATA: {
            uint64_t n = e - p; if (n > c->kleft) n = c->kleft;
            split_lines(c, p, p + n, now);
            p += n; c->kleft -= n; if (!c->kleft) c->kst = K_CRLF;
            break; }
        case K_CRLF: { char ch = *p++;
            if (ch == '\n') { c->kst = K_SIZE; c->kleft = 0; }
            else if (ch != '\r') S.bad_frame++;
            break; }
        case K_END: p = e; conn_end(c, 1); return;
    }
    if (c->kst == K_END) conn_end(c, 1);
}

static void conn_read(struct conn *c, int hup) {
    for (;;) {
        ssize_t n = recv(c->fd, rbuf, RBUF, 0);
        if (n < 0) { if (errno == EAGAIN || errno == EINTR) return; conn_end(c, 1); return; }
        if (n == 0) { conn_end(c, 1); return; }
        uint64_t now = now_mono();
        S.bytes += n; S.recvs++;
        const char *p = rbuf, *e = rbuf + n;
        if (c->st != C_BODY) p = headers(c, p, e);
        if (c->st == C_BODY && p < e) body(c, p, e, now);
        if ((n < RBUF && !hup) || c->st == C_DEAD) return;
    }
}

/* ------------------------------------------------------------- connections */
static struct sockaddr_in addr_of(const char *host, int port) {
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };
    if (inet_pton(AF_INET, host, &a.sin_addr) != 1) die("--host wants a dotted address, got %s", host);
    return a;
}

static void conn_start(struct conn *c) {
    static struct sockaddr_in a; static int have;
    if (!have) { a = addr_of(o.host, o.port); have = 1; }
    S.started++;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    c->st = C_CONNECTING; c->ev_n = c->ev_t = -1; c->last_n = -1; c->first_n = firsts ? firsts[c->idx] : 0;
    if (c->fd < 0) { fprintf(stderr, "sseload: socket: %s\n", strerror(errno)); S.failed++; c->st = C_DEAD; return; }
    int one = 1; setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(c->fd, (void *)&a, sizeof a) && errno != EINPROGRESS) { conn_end(c, 1); return; }
    struct epoll_event ev = { .events = EPOLLOUT, .data.u32 = c->idx };
    epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev);
}

static void conn_send_request(struct conn *c) {
    char path[2048], req[8192]; int err = 0; socklen_t l = sizeof err;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &l);
    if (err) { fprintf(stderr, "sseload: connection %d: %s\n", c->idx, strerror(err)); conn_end(c, 1); return; }
    if (paths) snprintf(path, sizeof path, "%s", paths[c->idx]);
    else {
        const char *d = strstr(o.path, "%d");
        if (d) snprintf(path, sizeof path, "%.*s%d%s", (int)(d - o.path), o.path, c->idx, d + 2);
        else snprintf(path, sizeof path, "%s", o.path);
    }
    int n = snprintf(req, sizeof req,
        "GET %s HTTP/1.1\r\nHost: %s:%d\r\nAccept: text/event-stream\r\nCache-Control: no-cache\r\n%s%s%s%s\r\n",
        path, o.host, o.port, o.hdrs, seen && seen[c->idx] ? "Last-Event-ID: " : "",
        seen && seen[c->idx] ? seen[c->idx] : "", seen && seen[c->idx] ? "\r\n" : "");
    if (send(c->fd, req, n, MSG_NOSIGNAL) != n) { conn_end(c, 1); return; }
    c->st = C_STATUS;
    /* edge-triggered: a short read means drained (conn_read), RDHUP tells of EOF */
    struct epoll_event ev = { .events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.u32 = c->idx };
    epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev);
    if (!strcmp(o.ready, "connect")) conn_ready(c);
}

/* ---------------------------------------------------------------- publisher */
#define PUBTAG 0x80000000u
#define TIMERTAG 0xc0000000u
struct pub { int fd, busy, sent_any, hdr_done, chunked, close; long need; size_t len; char buf[16384]; };
static struct pub *pubs;
static struct {
    long next, done, errors, total; uint64_t t0, t1, lag_max; double interval;
    uint64_t rtt_sum; int first_err;
} P;

static void pub_connect(struct pub *p, int i) {
    struct sockaddr_in a = addr_of(o.pub_host ? o.pub_host : o.host, o.pub_port ? o.pub_port : o.port);
    p->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (p->fd < 0 || connect(p->fd, (void *)&a, sizeof a)) die("publisher: connect: %s", strerror(errno));
    int one = 1; setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(p->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event ev = { .events = EPOLLIN, .data.u32 = PUBTAG | i };
    epoll_ctl(ep, EPOLL_CTL_ADD, p->fd, &ev);
    p->sent_any = 0;
}

/* the message: {"n":i,"t":ns,"p":"xxx"} padded to --payload bytes */
static size_t make_msg(char *b, size_t cap, long n, uint64_t t) {
    int k = snprintf(b, cap, "{\"n\":%ld,\"t\":%llu", n, (unsigned long long)t);
    int pad = o.payload - k - 8;              /* ,"p":"" and } */
    if (pad > 0 && (size_t)(k + pad + 8) < cap) {
        k += sprintf(b + k, ",\"p\":\"");
        memset(b + k, 'x', pad); k += pad;
        b[k++] = '"';
    }
    b[k++] = '}'; b[k] = 0;
    return k;
}

static void pub_send(struct pub *p, int i, uint64_t t) {
    static char msg[65536], jmsg[131072], bodyb[262144], req[300000];
    if (p->fd < 0) pub_connect(p, i);
    make_msg(msg, sizeof msg, P.next, t);
    char *j = jmsg; for (char *s = msg; *s; s++) { if (*s == '"' || *s == '\\') *j++ = '\\'; *j++ = *s; } *j = 0;
    size_t bl = 0;
    for (const char *s = o.pub_body; *s;) {
        if (!strncmp(s, "%MSG%", 5)) { size_t k = strlen(msg); memcpy(bodyb + bl, msg, k); bl += k; s += 5; }
        else if (!strncmp(s, "%JMSG%", 6)) { size_t k = j - jmsg; memcpy(bodyb + bl, jmsg, k); bl += k; s += 6; }
        else if (!strncmp(s, "%N%", 3)) { bl += sprintf(bodyb + bl, "%ld", P.next); s += 3; }
        else bodyb[bl++] = *s++;
        if (bl > sizeof bodyb - 140000) die("publish body too large");
    }
    int n = snprintf(req, sizeof req, "%s %s HTTP/1.1\r\nHost: %s:%d\r\nContent-Length: %zu\r\n%s\r\n",
        o.pub_method, o.pub_path, o.pub_host ? o.pub_host : o.host, o.pub_port ? o.pub_port : o.port, bl, o.pub_hdrs);
    memcpy(req + n, bodyb, bl); n += bl;
    p->busy = 1; p->len = 0; p->hdr_done = 0; p->need = -1; p->chunked = 0; p->close = 0;
    if (send(p->fd, req, n, MSG_NOSIGNAL) != n) {      /* peer closed keep-alive */
        close(p->fd); pub_connect(p, i);
        if (send(p->fd, req, n, MSG_NOSIGNAL) != n) die("publisher: send failed");
    }
    P.next++;
}

static void pub_done(struct pub *p) {
    p->busy = 0; P.done++; p->sent_any = 1; P.t1 = now_mono();
    if (p->close) { close(p->fd); p->fd = -1; }
}

static void pub_kick(void) {               /* start whatever may start now */
    if (P.next >= P.total) return;
    uint64_t now = now_mono();
    for (int i = 0; i < o.pub_conns && P.next < P.total; i++) {
        if (pubs[i].busy) continue;
        if (o.rate > 0) {                  /* open loop: stamp the intended time */
            uint64_t due = P.t0 + (uint64_t)(P.next * P.interval);
            if (due > now) return;
            if (now - due > P.lag_max) P.lag_max = now - due;
            pub_send(&pubs[i], i, due);
        } else pub_send(&pubs[i], i, now_mono());
    }
}

static void pub_read(struct pub *p) {
    for (;;) {
        if (p->fd < 0) return;
        if (p->len >= sizeof p->buf - 1) p->len = sizeof p->buf / 2;   /* huge answer: keep the tail moving */
        ssize_t n = recv(p->fd, p->buf + p->len, sizeof p->buf - 1 - p->len, MSG_DONTWAIT);
        if (n < 0) return;                              /* EAGAIN */
        if (n == 0) {
            close(p->fd); p->fd = -1;
            if (!p->busy) return;
            if (p->hdr_done && p->need < 0) { pub_done(p); pub_kick(); return; }
            /* closed under us before an answer: count, go on */
            P.errors++; pub_done(p); pub_kick(); return;
        }
        if (!p->busy) continue;
        p->len += n; p->buf[p->len] = 0;
        char *h = p->hdr_done ? p->buf : strstr(p->buf, "\r\n\r\n");
        if (!h) continue;
        if (!p->hdr_done) {
            p->hdr_done = 1; int code = 0; sscanf(p->buf, "HTTP/1.%*d %d", &code);
            *h = 0;
            if (code / 100 != 2) { P.errors++; if (!P.first_err) { P.first_err = code; fprintf(stderr, "sseload: publish answered: %s\n", p->buf); } }
            char *cl = strcasestr(p->buf, "\r\ncontent-length:");
            if (cl) p->need = atol(cl + 17);
            if (strcasestr(p->buf, "\r\ntransfer-encoding: chunked")) p->chunked = 1;
            if (strcasestr(p->buf, "\r\nconnection: close")) p->close = 1;
            if (code == 204 || code == 304) p->need = 0;
            size_t hl = (h - p->buf) + 4;
            memmove(p->buf, p->buf + hl, p->len - hl); p->len -= hl; p->buf[p->len] = 0;
        }
        int fin = 0;
        if (p->need >= 0) fin = (long)p->len >= p->need;
        else if (p->chunked) fin = p->len >= 5 && !memcmp(p->buf + p->len - 5, "0\r\n\r\n", 5);
        if (fin) { pub_done(p); pub_kick(); }
    }
}

/* -------------------------------------------------------------------- loop */
static int tfd = -1;
static void handle(struct epoll_event *ev, int n) {
    for (int i = 0; i < n; i++) {
        uint32_t u = ev[i].data.u32;
        if (u == TIMERTAG) { uint64_t x; if (read(tfd, &x, 8) == 8) pub_kick(); continue; }
        if (u & PUBTAG) { pub_read(&pubs[u & 0xffff]); continue; }
        struct conn *c = &conns[u];
        if (c->st == C_DEAD) continue;
        if (c->st == C_CONNECTING) conn_send_request(c);
        else conn_read(c, ev[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR));
    }
}
static int step(int ms) {
    struct epoll_event ev[BATCH];
    int n = epoll_wait(ep, ev, BATCH, ms);
    if (n > 0) handle(ev, n);
    return n;
}
static void run_for(double s) {
    uint64_t end = now_mono() + (uint64_t)(s * 1e9), n;
    while ((n = now_mono()) < end) step((int)((end - n) / 1000000) + 1);
}

static void usage(void) {
    puts("sseload --port P [options]\n"
    "  --host A            server address (127.0.0.1)\n"
    "  --path T            subscribe path; %d = connection index (/events)\n"
    "  --paths FILE        one subscribe path per line, line i for connection i; optionally the number of the first\n"
    "                      event that it must get, and the Last-Event-ID that it returns with, each after a space\n"
    "  --base N            events are numbered from N on; smaller ones are another publisher's and not counted (0)\n"
    "  --header 'K: V'     extra request header (repeatable)\n"
    "  --conns N           subscriptions (1)\n"
    "  --ramp-conc K       connections opening at once (64)\n"
    "  --ramp-timeout S    give up on READY after S seconds (60)\n"
    "  --ready headers|connect\n"
    "  --settle MS         pause between READY and measuring (500)\n"
    "  --mode fanout|listen|idle|ramp\n"
    "  --msgs M            events every connection must get (100)\n"
    "  --rate R            messages per second, 0 = next when the last is answered (0)\n"
    "  --payload B         size of the JSON message (100)\n"
    "  --duration S        idle mode: how long (10)\n"
    "  --timeout S         after the start of publishing (60)\n"
    "  --grace S           stop after S seconds without an event once all is published (5)\n"
    "  --pub-host --pub-port --pub-path --pub-method --pub-header --pub-conns K\n"
    "  --pub-body T        %MSG% message, %JMSG% message escaped for a JSON string, %N% number\n"
    "  --pub-requests R    send R requests instead of M (the server makes M events of them)\n"
    "  --count-all         count events without \"n\" too\n"
    "  --pid P[,P..]       server processes to account (repeatable)\n"
    "  --cpu C             core the server is pinned to: report its busy time\n"
    "  --label TEXT        copied to the output");
    exit(0);
}

enum { OPT_HOST = 256, OPT_PORT, OPT_PATH, OPT_PATHS, OPT_HDR, OPT_CONNS, OPT_RC, OPT_RT, OPT_READY, OPT_SETTLE, OPT_MODE,
       OPT_MSGS, OPT_RATE, OPT_PAY, OPT_DUR, OPT_TMO, OPT_GRACE, OPT_PH, OPT_PP, OPT_PPATH, OPT_PM, OPT_PHDR, OPT_PC, OPT_PB,
       OPT_PR, OPT_ALL, OPT_BASE, OPT_PID, OPT_CPU, OPT_LABEL, OPT_HELP };
static const struct option opts[] = {
    {"host", 1, 0, OPT_HOST}, {"port", 1, 0, OPT_PORT}, {"path", 1, 0, OPT_PATH}, {"paths", 1, 0, OPT_PATHS},
    {"header", 1, 0, OPT_HDR}, {"conns", 1, 0, OPT_CONNS}, {"ramp-conc", 1, 0, OPT_RC}, {"ramp-timeout", 1, 0, OPT_RT},
    {"ready", 1, 0, OPT_READY}, {"settle", 1, 0, OPT_SETTLE}, {"mode", 1, 0, OPT_MODE}, {"msgs", 1, 0, OPT_MSGS},
    {"rate", 1, 0, OPT_RATE}, {"payload", 1, 0, OPT_PAY}, {"duration", 1, 0, OPT_DUR}, {"timeout", 1, 0, OPT_TMO},
    {"grace", 1, 0, OPT_GRACE}, {"pub-host", 1, 0, OPT_PH}, {"pub-port", 1, 0, OPT_PP}, {"pub-path", 1, 0, OPT_PPATH},
    {"pub-method", 1, 0, OPT_PM}, {"pub-header", 1, 0, OPT_PHDR}, {"pub-conns", 1, 0, OPT_PC}, {"pub-body", 1, 0, OPT_PB},
    {"pub-requests", 1, 0, OPT_PR}, {"count-all", 0, 0, OPT_ALL}, {"base", 1, 0, OPT_BASE}, {"pid", 1, 0, OPT_PID}, {"cpu", 1, 0, OPT_CPU},
    {"label", 1, 0, OPT_LABEL}, {"help", 0, 0, OPT_HELP}, {0, 0, 0, 0}};

static void add_hdr(char *dst, size_t cap, const char *h) {
    size_t l = strlen(dst); snprintf(dst + l, cap - l, "%s\r\n", h);
}

int main(int argc, char **argv) {
    int c;
    while ((c = getopt_long(argc, argv, "", opts, 0)) != -1) switch (c) {
        case OPT_HOST: o.host = optarg; break;
        case OPT_PORT: o.port = atoi(optarg); break;
        case OPT_PATH: o.path = optarg; break;
        case OPT_PATHS: o.paths_file = optarg; break;
        case OPT_HDR: add_hdr(o.hdrs, sizeof o.hdrs, optarg); break;
        case OPT_CONNS: o.conns = atoi(optarg); break;
        case OPT_RC: o.ramp_conc = atoi(optarg); break;
        case OPT_RT: o.ramp_timeout = atof(optarg); break;
        case OPT_READY: o.ready = optarg; break;
        case OPT_SETTLE: o.settle_ms = atoi(optarg); break;
        case OPT_MODE: o.mode = optarg; break;
        case OPT_MSGS: o.msgs = atol(optarg); break;
        case OPT_RATE: o.rate = atof(optarg); break;
        case OPT_PAY: o.payload = atoi(optarg); break;
        case OPT_DUR: o.duration = atof(optarg); break;
        case OPT_TMO: o.timeout = atof(optarg); break;
        case OPT_GRACE: o.grace = atof(optarg); break;
        case OPT_PH: o.pub_host = optarg; break;
        case OPT_PP: o.pub_port = atoi(optarg); break;
        case OPT_PPATH: o.pub_path = optarg; break;
        case OPT_PM: o.pub_method = optarg; break;
        case OPT_PHDR: add_hdr(o.pub_hdrs, sizeof o.pub_hdrs, optarg); break;
        case OPT_PC: o.pub_conns = atoi(optarg); break;
        case OPT_PB: o.pub_body = optarg; break;
        case OPT_PR: o.pub_requests = atol(optarg); break;
        case OPT_ALL: o.count_all = 1; break;
        case OPT_BASE: o.base = atol(optarg); break;
        case OPT_PID: for (char *t = strtok(optarg, ", "); t && o.npids < MAXPID; t = strtok(0, ", ")) o.pids[o.npids++] = atoi(t); break;
        case OPT_CPU: o.cpu = atoi(optarg); break;
        case OPT_LABEL: o.label = optarg; break;
        case OPT_HELP: usage(); break;
        default: return 3;
    }
    if (!o.port || o.conns < 1 || o.payload > 60000 || o.pub_conns < 1 || o.pub_conns > 60000) die("bad or missing options (--port is required)");
    signal(SIGPIPE, SIG_IGN);

    struct rlimit rl; getrlimit(RLIMIT_NOFILE, &rl);
    struct rlimit want = { (rlim_t)o.conns + 1024, (rlim_t)o.conns + 1024 };
    if (rl.rlim_max < want.rlim_max) setrlimit(RLIMIT_NOFILE, &want);      /* root may raise the hard limit */
    getrlimit(RLIMIT_NOFILE, &rl); rl.rlim_cur = rl.rlim_max; setrlimit(RLIMIT_NOFILE, &rl);
    if (rl.rlim_cur < (rlim_t)o.conns + 16) die("open-file limit %lu is too low for %d connections", (unsigned long)rl.rlim_cur, o.conns);

    if (o.paths_file) {
        FILE *f = fopen(o.paths_file, "r"); if (!f) die("%s: %s", o.paths_file, strerror(errno));
        paths = calloc(o.conns, sizeof *paths); firsts = calloc(o.conns, sizeof *firsts); seen = calloc(o.conns, sizeof *seen); char l[2048]; int i = 0;
        while (i < o.conns && fgets(l, sizeof l, f)) { l[strcspn(l, "\r\n")] = 0; if (!*l) continue;
            char *sp = strchr(l, ' ');
            if (sp) { *sp++ = 0; firsts[i] = strtol(sp, &sp, 10); if (*sp == ' ') seen[i] = strdup(sp + 1); }
            paths[i++] = strdup(l); }
        fclose(f); if (i < o.conns) die("%s holds %d paths, need %d", o.paths_file, i, o.conns);
    }
    int fan = !strcmp(o.mode, "fanout"), listen_ = !strcmp(o.mode, "listen"),
        idle = !strcmp(o.mode, "idle"), ramp = !strcmp(o.mode, "ramp");
    if (!fan && !listen_ && !idle && !ramp) die("unknown --mode %s", o.mode);
    conns = calloc(o.conns, sizeof *conns);
    if (fan || listen_) { bm_words = (o.msgs + 63) / 64; bitmap = calloc((size_t)o.conns * bm_words, 8); }
    memset(rbuf, 1, sizeof rbuf);
    ep = epoll_create1(EPOLL_CLOEXEC);

    /* ---- ramp */
    struct probe before, ready, start, end;
    probe(&before); reset_hwm();
    S.t0 = S.ready_ns = now_mono();
    int next = 0; uint64_t limit = S.t0 + (uint64_t)(o.ramp_timeout * 1e9);
    while (S.ready + S.failed < o.conns && now_mono() < limit) {
        while (next < o.conns && S.started - S.ready - S.failed < o.ramp_conc) {
            conns[next].idx = next; conn_start(&conns[next]); next++;
        }
        step(100);
    }
    probe(&ready);
    double ramp_s = (S.ready_ns - S.t0) / 1e9;
    int all_ready = S.ready == o.conns;
    fprintf(stderr, all_ready ? "READY %d in %.3f s\n" : "NOT READY: %d in %.3f s\n", S.ready, ramp_s);

    /* ---- measure */
    int timed_out = 0;
    if (!ramp) run_for(o.settle_ms / 1000.0);
    uint64_t recvs0 = S.recvs;
    probe(&start); end = start;
    uint64_t want_total = 0;
    for (int i = 0; i < o.conns; i++) { long w = o.msgs - (firsts ? firsts[i] : 0); expected += w; if (conns[i].ready) want_total += w; }
    if (idle) { run_for(o.duration); probe(&end); }
    else if (fan || listen_) {
        uint64_t t0 = now_mono(), stop = t0 + (uint64_t)(o.timeout * 1e9), lastprog = t0, lastuniq = 0;
        if (fan) {
            pubs = calloc(o.pub_conns, sizeof *pubs);
            for (int i = 0; i < o.pub_conns; i++) pub_connect(&pubs[i], i);
            P.total = o.pub_requests >= 0 ? o.pub_requests : o.msgs;
            P.t0 = now_mono();
            if (o.rate > 0) {
                P.interval = 1e9 / o.rate;
                tfd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
                struct itimerspec it = { .it_value = { P.t0 / NS, P.t0 % NS },
                    .it_interval = { (time_t)(P.interval / 1e9), (long)((uint64_t)P.interval % NS) } };
                timerfd_settime(tfd, TFD_TIMER_ABSTIME, &it, 0);
                struct epoll_event ev = { .events = EPOLLIN, .data.u32 = TIMERTAG };
                epoll_ctl(ep, EPOLL_CTL_ADD, tfd, &ev);
            } else pub_kick();
        }
        for (;;) {
            step(20);
            if (fan && o.rate <= 0) for (int i = 0; i < o.pub_conns; i++) if (pubs[i].busy) pub_read(&pubs[i]);
            if (S.unique >= want_total && (!fan || P.done >= P.total)) break;
            if (S.ready - S.closed_early <= 0) break;
            uint64_t n = now_mono();
            if (S.unique != lastuniq || (fan && P.done < P.total)) { lastuniq = S.unique; lastprog = n; }
            if (fan && n - lastprog > (uint64_t)(o.grace * 1e9)) break;
            if (n > stop) { timed_out = 1; break; }
        }
        probe(&end);
        if (S.unique >= want_total) run_for(0.05);         /* anything late would be a duplicate */
    } else end = ready;

    /* ---- report */
    double wall = S.last_ev > S.first_ev ? (S.last_ev - S.first_ev) / 1e9 : 0;
    double total = fan && S.last_ev > P.t0 ? (S.last_ev - P.t0) / 1e9 : wall;
    struct probe *a = ramp ? &before : &start;
    double scpu = end.scpu - a->scpu, ccpu = end.ccpu - a->ccpu, win = end.wall - a->wall;
    if (ramp) win = ramp_s;
    double all = end.all - a->all;
    int expect = fan || listen_;
    int incomplete = 0; uint32_t mn = UINT32_MAX, mx = 0;
    for (int i = 0; i < o.conns; i++) if (conns[i].ready) {
        if (expect && conns[i].got < o.msgs - conns[i].first_n) incomplete++;
        if (conns[i].got < mn) mn = conns[i].got;
        if (conns[i].got > mx) mx = conns[i].got;
    }
    printf("{\"label\":\"%s\",\"mode\":\"%s\",\"connections\":%d,\"ready\":%d,\"connect_failed\":%d,"
           "\"closed_early\":%d,\"bad_status\":%d,\"bad_content_type\":%d,\"bad_frames\":%llu",
           o.label, o.mode, o.conns, S.ready, S.failed, S.closed_early, S.bad_status, S.bad_ctype,
           (unsigned long long)S.bad_frame);
    printf(",\"ramp_s\":%.4f,\"ramp_per_s\":%.0f,\"ramp_server_cpu_s\":%.4f", ramp_s,
           ramp_s > 0 ? S.ready / ramp_s : 0, ready.scpu - before.scpu);
    if (expect) {
        printf(",\"msgs\":%ld,\"events_expected\":%llu,\"events_received\":%llu,\"lost\":%llu,\"duplicated\":%llu,"
               "\"out_of_order\":%llu,\"unnumbered\":%llu,\"out_of_range\":%llu,\"incomplete_connections\":%d,"
               "\"min_per_conn\":%u,\"max_per_conn\":%u,\"timed_out\":%s",
               o.msgs, (unsigned long long)expected, (unsigned long long)S.unique,
               (unsigned long long)(expected - S.unique), (unsigned long long)S.dup,
               (unsigned long long)S.ooo, (unsigned long long)S.unnumbered, (unsigned long long)S.out_of_range,
               incomplete, mn == UINT32_MAX ? 0 : mn, mx, timed_out ? "true" : "false");
        printf(",\"caught_up_s\":%.4f,\"wall_s\":%.4f,\"total_s\":%.4f,\"events_per_s\":%.0f,\"events_per_s_total\":%.0f",
               S.last_ev > S.t0 ? (S.last_ev - S.t0) / 1e9 : 0, wall, total,
               wall > 0 ? S.unique / wall : 0, total > 0 ? S.unique / total : 0);
        printf(",\"lat_ms\":{\"p50\":%.3f,\"p90\":%.3f,\"p99\":%.3f,\"p999\":%.3f,\"max\":%.3f,\"mean\":%.3f,\"n\":%llu,\"negative\":%llu}",
               hist_q(.5) / 1e6, hist_q(.9) / 1e6, hist_q(.99) / 1e6, hist_q(.999) / 1e6, S.lat_max / 1e6,
               S.lat_n ? S.lat_sum / 1e6 / S.lat_n : 0, (unsigned long long)S.lat_n, (unsigned long long)S.lat_neg);
        if (fan) printf(",\"published\":%ld,\"publish_errors\":%ld,\"publish_s\":%.4f,\"publish_per_s\":%.0f,\"publish_lag_max_ms\":%.3f",
               P.done, P.errors, P.t1 > P.t0 ? (P.t1 - P.t0) / 1e9 : 0,
               P.t1 > P.t0 ? P.done / ((P.t1 - P.t0) / 1e9) : 0, P.lag_max / 1e6);
        printf(",\"server_cpu_us_per_event\":%.3f,\"client_cpu_us_per_event\":%.3f",
               S.unique ? scpu * 1e6 / S.unique : 0, S.unique ? ccpu * 1e6 / S.unique : 0);
        printf(",\"events_per_recv\":%.2f", S.recvs > recvs0 ? (double)S.unique / (S.recvs - recvs0) : 0);
    }
    printf(",\"window_s\":%.4f,\"client_cpu_s\":%.4f,\"client_util\":%.3f", win, ccpu, win > 0 ? ccpu / win : 0);
    printf(",\"server_cpu_s\":%.4f,\"server_util\":%.3f,\"server_user_s\":%.2f,\"server_sys_s\":%.2f", scpu,
           win > 0 ? scpu / win : 0, end.sut - a->sut, end.sst - a->sst);
    if (o.cpu >= 0) printf(",\"server_core_busy_s\":%.2f", end.core - a->core);
    printf(",\"foreign_cpu_s\":%.2f", all - scpu - ccpu > 0 ? all - scpu - ccpu : 0);
    printf(",\"rss_kb_before\":%ld,\"rss_kb_ready\":%ld,\"rss_kb_end\":%ld,\"rss_kb_peak\":%ld,\"pss_kb_before\":%ld,\"pss_kb_ready\":%ld,\"pss_kb_end\":%ld",
           before.rss, start.rss ? start.rss : ready.rss, end.rss, end.hwm, before.pss, start.pss ? start.pss : ready.pss, end.pss);
    printf(",\"rss_kb_per_conn\":%.2f,\"tcp_mem_kb_ready\":%ld,\"bytes\":%llu,\"recvs\":%llu}\n",
           S.ready ? (double)((start.rss ? start.rss : ready.rss) - before.rss) / S.ready : 0, ready.tcp,
           (unsigned long long)S.bytes, (unsigned long long)S.recvs);
    fflush(stdout);
    for (int i = 0; i < o.conns; i++) if (conns[i].fd > 0) close(conns[i].fd);
    return all_ready && (!expect || S.unique == want_total) ? 0 : 1;
}
