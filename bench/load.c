/* A load generator that checks every byte it is sent, and is cheaper than the servers it loads.
 *
 *   load HOST PORT CONNECTIONS DEPTH SECONDS MODE REQUESTS EXPECTED [LATENCIES]
 *
 * Opens CONNECTIONS, keeps DEPTH requests in flight on each, and compares the answers with EXPECTED
 * as they arrive: one shared receive buffer, one memcmp a chunk, nothing kept per connection, so that
 * the buffer stays in the cache and an answer costs little more than its recv.
 *
 * MODE says how the next answer is found after one that is not as expected: "line" (after the next
 * newline) or "resp" (by the length that Redis announced; if that differs, the connection is given up).
 *
 * REQUESTS holds one request after the other, each as "LENGTH\n" and its bytes; every connection sends
 * them in turn and starts over after the last. They begin as far apart as can be, so that what one has
 * asked is long ago when the next one asks it. EXPECTED holds the answer to each, in parts:
 *   "S LENGTH\n" and its bytes   these bytes
 *   "D LENGTH\n"                 that many decimal digits, whichever (a clock)
 *   ".\n"                        the end of this answer
 *
 * When all connections stand and have had one warm-up round, "ready" is printed and a line awaited on
 * stdin, so that the caller can read the server's CPU time while nothing is in flight. After SECONDS
 * nothing more is sent, what is in flight is awaited, and one line of JSON is printed. LATENCIES gets
 * two numbers of 64 bits for each answer that was as expected: when its request was sent, on the
 * monotonic clock, and how long the answer took, in nanoseconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { RECEIVE = 256 * 1024, EVENTS = 512, SUB_BITS = 6, BUCKETS = 64 << SUB_BITS };
static const uint64_t SECOND = 1000000000ull;
/* How long a server may leave everything unanswered before what is in flight counts as lost. */
static const uint64_t PATIENCE = 10000000000ull;

struct part {
    const char *bytes; /* NULL: any digits */
    size_t length;
};

struct answer {
    struct part *parts;
    size_t count, total;
};

struct connection {
    int fd; /* -1: given up */
    int wants_out;
    size_t out_from, out_to;   /* bytes of the request stream still to be written */
    size_t next_send;          /* variant of the next request */
    size_t next_answer;        /* variant of the answer that is arriving */
    size_t part, position;     /* where in that answer */
    size_t got;                /* bytes of that answer so far */
    int bad;                   /* that answer has differed: skip to its end */
    uint64_t *sent;            /* ring of DEPTH times of sending */
    size_t oldest, in_flight;
};

static size_t depth, variants;
static int resp;
static char *stream;        /* all requests in turn, and DEPTH more: any DEPTH of them lie in a row */
static size_t *stream_at;   /* variants + depth + 1 offsets */
static struct answer *answers;
static uint64_t histogram[BUCKETS], slowest;
static uint64_t requests, bytes, errors, mismatches;
static size_t in_flight, alive;
static int poller;
static uint64_t *latencies; /* pairs, grown as needed; NULL: not wanted */
static size_t noted, latency_room;
static char first_problem[512];

static void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(2);
}

static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (!memory) die("out of memory");
    return memory;
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

/* ---- files ---------------------------------------------------------------------------------- */

static char *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file) die("cannot open %s: %s", path, strerror(errno));
    fseek(file, 0, SEEK_END);
    long end = ftell(file);
    rewind(file);
    char *text = allocate((size_t)end + 1, 1);
    if (fread(text, 1, (size_t)end, file) != (size_t)end) die("cannot read %s", path);
    fclose(file);
    *size = (size_t)end;
    return text;
}

/* The number at *at, and step over the newline behind it. */
static size_t read_length(const char *text, size_t size, size_t *at, const char *path) {
    char *end;
    size_t length = strtoull(text + *at, &end, 10);
    if (end == text + *at || *end != '\n') die("%s: a length was expected at byte %zu", path, *at);
    *at = (size_t)(end - text) + 1;
    if (length > size) die("%s: the length before byte %zu is too large", path, *at);
    return length;
}

static void read_requests(const char *path) {
    size_t size, at = 0, room = 16, total = 0;
    char *text = read_file(path, &size);
    struct part *found = allocate(room, sizeof *found);
    while (at < size) {
        size_t length = read_length(text, size, &at, path);
        if (!length || at + length > size) die("%s: the request at byte %zu is cut off", path, at);
        if (variants == room) found = realloc(found, (room *= 2) * sizeof *found);
        if (!found) die("out of memory");
        found[variants++] = (struct part){text + at, length};
        at += length;
    }
    if (!variants) die("%s: no request in it", path);
    for (size_t i = 0; i < variants + depth; i++) total += found[i % variants].length;
    stream = allocate(total, 1);
    stream_at = allocate(variants + depth + 1, sizeof *stream_at);
    for (size_t i = 0; i < variants + depth; i++) {
        struct part *one = &found[i % variants];
        memcpy(stream + stream_at[i], one->bytes, one->length);
        stream_at[i + 1] = stream_at[i] + one->length;
    }
    free(found);
}

/* Equal parts share their memory: many requests for one range then cost the cache one answer. Of short
 * ones there may be thousands, each another one. */
static const char *shared(const char *bytes_, size_t length) {
    static struct part *known;
    static size_t count, room;
    if (length < 1024) return bytes_;
    for (size_t i = 0; i < count; i++)
        if (known[i].length == length && !memcmp(known[i].bytes, bytes_, length)) return known[i].bytes;
    if (count == room) known = realloc(known, (room = room ? room * 2 : 64) * sizeof *known);
    if (!known) die("out of memory");
    known[count++] = (struct part){bytes_, length};
    return bytes_;
}

static void read_expected(const char *path) {
    size_t size, at = 0;
    char *text = read_file(path, &size);
    answers = allocate(variants, sizeof *answers);
    for (size_t i = 0; i < variants; i++) {
        struct answer *answer = &answers[i];
        for (;;) {
            if (at + 2 > size) die("%s: answers for %zu requests, there are %zu", path, i, variants);
            char kind = text[at];
            if (kind == '.') {
                at += 2;
                break;
            }
            at += 2;
            size_t length = read_length(text, size, &at, path);
            answer->parts = realloc(answer->parts, (answer->count + 1) * sizeof *answer->parts);
            if (!answer->parts) die("out of memory");
            struct part *part = &answer->parts[answer->count++];
            *part = (struct part){NULL, length};
            if (kind == 'S') {
                if (at + length + 1 > size) die("%s: the part at byte %zu is cut off", path, at);
                part->bytes = shared(text + at, length);
                at += length + 1;
            } else if (kind != 'D') {
                die("%s: a part is S or D, not %c", path, kind);
            }
            if (!length) die("%s: an empty part before byte %zu", path, at);
            answer->total += length;
        }
        if (!answer->count) die("%s: answer %zu has no parts", path, i);
    }
    if (at != size) die("%s: more answers than the %zu requests", path, variants);
}

/* ---- latency: 64 steps to each doubling, so that a percentile is within 1.6 % ------------------ */

static void record_latency(uint64_t ns) {
    unsigned shift = 0;
    if (ns > slowest) slowest = ns;
    if (ns >> (SUB_BITS + 1)) shift = (unsigned)(63 - __builtin_clzll(ns)) - SUB_BITS;
    histogram[((size_t)shift << SUB_BITS) + (size_t)(ns >> shift)]++;
}

static void note_latency(uint64_t sent, uint64_t took) {
    if (!latencies) return;
    if (noted == latency_room) latencies = realloc(latencies, (latency_room *= 2) * 2 * sizeof *latencies);
    if (!latencies) die("out of memory");
    latencies[2 * noted] = sent;
    latencies[2 * noted++ + 1] = took;
}

static void write_latencies(const char *path) {
    FILE *file = fopen(path, "wb");
    if (!file) die("cannot open %s: %s", path, strerror(errno));
    if (fwrite(latencies, 2 * sizeof *latencies, noted, file) != noted || fclose(file))
        die("cannot write %s: %s", path, strerror(errno));
}

static double percentile_us(double share) {
    uint64_t wanted = (uint64_t)(share * (double)requests), seen = 0;
    for (size_t i = 0; i < BUCKETS; i++) {
        seen += histogram[i];
        if (seen > wanted) {
            size_t shift = i >> SUB_BITS ? (i >> SUB_BITS) - 1 : 0;
            double low = (double)(i - (shift << SUB_BITS));
            return (low + 0.5) * (double)(1ull << shift) / 1000.0;
        }
    }
    return (double)slowest / 1000.0;
}

/* ---- a connection ------------------------------------------------------------------------------ */

static void note_problem(const char *format, ...) {
    if (first_problem[0]) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(first_problem, sizeof first_problem, format, arguments);
    va_end(arguments);
    /* It goes into a JSON string as it is. */
    for (char *c = first_problem; *c; c++)
        if (*c == '"' || *c == '\\' || (unsigned char)*c < 32 || (unsigned char)*c > 126) *c = '\'';
}

static void give_up(struct connection *c, const char *why) {
    note_problem("connection given up: %s", why);
    errors += c->in_flight ? c->in_flight : 1;
    in_flight -= c->in_flight;
    c->in_flight = 0;
    close(c->fd);
    c->fd = -1;
    alive--;
}

static void watch(struct connection *c, int out) {
    if (c->wants_out == out) return;
    c->wants_out = out;
    struct epoll_event event = {.events = EPOLLIN | (out ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event);
}

static void flush(struct connection *c) {
    while (c->out_from < c->out_to) {
        ssize_t n = send(c->fd, stream + c->out_from, c->out_to - c->out_from, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EINTR) continue;
            if (errno == EAGAIN) break;
            give_up(c, strerror(errno));
            return;
        }
        c->out_from += (size_t)n;
    }
    watch(c, c->out_from < c->out_to);
}

static void send_requests(struct connection *c, size_t count) {
    uint64_t now = now_ns();
    if (c->out_from == c->out_to) c->out_from = c->out_to = stream_at[c->next_send];
    for (size_t i = 0; i < count; i++) {
        c->sent[(c->oldest + c->in_flight++) % depth] = now;
        /* What is still unsent lies right before: at most DEPTH requests, which the stream has room for. */
        c->out_to += stream_at[c->next_send + 1] - stream_at[c->next_send];
        c->next_send = c->next_send + 1 == variants ? 0 : c->next_send + 1;
    }
    in_flight += count;
    flush(c);
}

static void finish_answer(struct connection *c, uint64_t now) {
    if (!c->bad) {
        requests++;
        record_latency(now - c->sent[c->oldest]);
        note_latency(c->sent[c->oldest], now - c->sent[c->oldest]);
    }
    bytes += c->got;
    c->oldest = (c->oldest + 1) % depth;
    c->in_flight--;
    in_flight--;
    c->next_answer = c->next_answer + 1 == variants ? 0 : c->next_answer + 1;
    c->part = c->position = c->got = 0;
    c->bad = 0;
}

/* Say what came and what was expected from a little before the first byte that differs. */
static void note_difference(struct connection *c, struct part *part, const char *at, size_t take) {
    size_t same = 0;
    if (first_problem[0]) return;
    if (!part->bytes) {
        note_problem("answer to request %zu: no digits at byte %zu: %.*s", c->next_answer, c->got,
                     (int)take, at);
        return;
    }
    const char *expected = part->bytes + c->position;
    while (at[same] == expected[same]) same++;
    size_t back = same < 40 ? same : 40, shown = take - same < 80 ? take - same : 80;
    note_problem("answer to request %zu differs at byte %zu: got %.*s instead of %.*s",
                 c->next_answer, c->got + same, (int)(back + shown), at + same - back,
                 (int)(back + shown), expected + same - back);
}

static int all_digits(const char *text, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (text[i] < '0' || text[i] > '9') return 0;
    return 1;
}

/* Skip to the end of an answer that differs; returns the bytes used up. */
static size_t skip_bad(struct connection *c, const char *at, size_t length, uint64_t now) {
    size_t take = length, left = answers[c->next_answer].total - c->got;
    int ended;
    if (resp) {
        if (take > left) take = left;
        ended = take == left;
    } else {
        const char *newline = memchr(at, '\n', length);
        if (newline) take = (size_t)(newline - at) + 1;
        ended = newline != NULL;
    }
    c->got += take;
    if (ended) finish_answer(c, now);
    return take;
}

static size_t received(struct connection *c, const char *at, size_t length, uint64_t now) {
    size_t before = c->in_flight;
    while (length) {
        size_t take;
        if (!c->in_flight) {
            give_up(c, "bytes that nobody asked for");
            return 0;
        }
        if (c->bad) {
            take = skip_bad(c, at, length, now);
        } else {
            struct answer *answer = &answers[c->next_answer];
            struct part *part = &answer->parts[c->part];
            take = part->length - c->position;
            if (take > length) take = length;
            int equal = part->bytes ? !memcmp(at, part->bytes + c->position, take) : all_digits(at, take);
            if (!equal) {
                mismatches++;
                note_difference(c, part, at, take);
                if (resp && !c->part) {
                    give_up(c, "the length that was announced differs");
                    return 0;
                }
                c->bad = 1;
                continue;
            }
            c->got += take;
            c->position += take;
            if (c->position == part->length) {
                c->position = 0;
                if (++c->part == answer->count) finish_answer(c, now);
            }
        }
        at += take;
        length -= take;
    }
    return before - c->in_flight;
}

static void open_connection(struct connection *c, const struct sockaddr_in *address, size_t number,
                            size_t first) {
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("no socket %zu: %s", number, strerror(errno));
    if (connect(c->fd, (const struct sockaddr *)address, sizeof *address))
        die("connection %zu refused: %s", number, strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(c->fd, F_SETFL, fcntl(c->fd, F_GETFL) | O_NONBLOCK);
    c->sent = allocate(depth, sizeof *c->sent);
    c->next_send = c->next_answer = first;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event);
    alive++;
}

/* Until `until` each answer is followed by a new request; then until nothing is in flight. Returns
 * the time of the last answer. */
static uint64_t run(struct connection *all, size_t count, uint64_t until) {
    static char buffer[RECEIVE];
    struct epoll_event events[EVENTS];
    uint64_t last = now_ns();
    for (size_t i = 0; i < count; i++)
        if (all[i].fd >= 0) send_requests(&all[i], depth);
    while (in_flight) {
        int ready = epoll_wait(poller, events, EVENTS, 200);
        if (ready <= 0 && now_ns() - last > PATIENCE) {
            note_problem("%zu requests unanswered for 10 s", in_flight);
            errors += in_flight;
            return last;
        }
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (c->fd < 0) continue;
            if (events[i].events & EPOLLOUT) flush(c);
            if (c->fd < 0 || !(events[i].events & ~(uint32_t)EPOLLOUT)) continue;
            ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
            if (n < 0 && (errno == EAGAIN || errno == EINTR)) continue;
            if (n <= 0) {
                give_up(c, n ? strerror(errno) : "closed by the server");
                continue;
            }
            uint64_t now = now_ns();
            size_t answered = received(c, buffer, (size_t)n, now);
            last = now;
            if (c->fd >= 0 && answered && now < until) send_requests(c, answered);
        }
    }
    return last;
}

static double cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* Seconds this process was ready to run and something else had its core; 0 where the kernel does not say. */
static double waited_seconds(void) {
    unsigned long long run, waited = 0;
    FILE *file = fopen("/proc/self/schedstat", "r");
    if (!file) return 0;
    if (fscanf(file, "%llu %llu", &run, &waited) != 2) waited = 0;
    fclose(file);
    return (double)waited / 1e9;
}

int main(int argc, char **argv) {
    if (argc < 9 || argc > 10)
        die("usage: load HOST PORT CONNECTIONS DEPTH SECONDS line|resp REQUESTS EXPECTED [LATENCIES]");
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2]))};
    if (inet_pton(AF_INET, argv[1], &address.sin_addr) != 1) die("%s is no IPv4 address", argv[1]);
    size_t count = strtoull(argv[3], NULL, 10);
    depth = strtoull(argv[4], NULL, 10);
    double seconds = strtod(argv[5], NULL);
    if (!count || !depth || seconds <= 0) die("CONNECTIONS, DEPTH and SECONDS must be above 0");
    resp = !strcmp(argv[6], "resp");
    if (!resp && strcmp(argv[6], "line")) die("MODE is line or resp, not %s", argv[6]);
    read_requests(argv[7]);
    read_expected(argv[8]);

    poller = epoll_create1(EPOLL_CLOEXEC);
    struct connection *all = allocate(count, sizeof *all);
    for (size_t i = 0; i < count; i++) open_connection(&all[i], &address, i, i * variants / count);

    run(all, count, 0);
    uint64_t warm_errors = errors, warm_mismatches = mismatches;
    requests = bytes = slowest = 0;
    memset(histogram, 0, sizeof histogram);
    if (argc == 10) latencies = allocate(2 * (latency_room = 1 << 16), sizeof *latencies);
    puts("ready");
    fflush(stdout);
    if (getchar() == EOF) return 2;

    double cpu = cpu_seconds(), waited = waited_seconds();
    uint64_t start = now_ns();
    uint64_t end = run(all, count, start + (uint64_t)(seconds * (double)SECOND));
    cpu = cpu_seconds() - cpu;
    waited = waited_seconds() - waited;
    if (argc == 10) write_latencies(argv[9]);
    printf("{\"requests\": %llu, \"seconds\": %.6f, \"bytes\": %llu, \"errors\": %llu, "
           "\"mismatches\": %llu, \"p50_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f, "
           "\"cpu_seconds\": %.6f, \"waited_seconds\": %.6f, \"warm_up_problems\": %llu, \"first_problem\": \"%s\"}\n",
           (unsigned long long)requests, (double)(end - start) / 1e9, (unsigned long long)bytes,
           (unsigned long long)errors, (unsigned long long)mismatches, percentile_us(0.5),
           percentile_us(0.99), (double)slowest / 1000.0, cpu, waited,
           (unsigned long long)(warm_errors + warm_mismatches), first_problem);
    return 0;
}
