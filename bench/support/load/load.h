/*
 * The load of bench/peers and bench:guard: one server program in the guest, one client a workload outside.
 *
 * Why C        a client in Node reaches 10 to 20 thousand exchanges a second and would be what is measured.
 * Why not iperf3 or netperf  neither looks at what arrives. Here every byte is compared, every exchange carries a number that
 *              must come back, every datagram is counted once.
 *
 * Port         FIRST + …: 0 takes a stream, 1 gives one, 2 echoes, 3 answers short exchanges, 4 takes datagrams (UDP),
 *              5 reports what was given on 1 and taken on 4.
 * Output       a client prints one line of JSON; exit status 1 and {"error": …} when anything was not as it must be.
 */
#ifndef BERTH_LOAD_H
#define BERTH_LOAD_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TAKE, GIVE, ECHO, EXCHANGE, DATAGRAMS, REPORT };

/* What a stream carries: this block over and over. No power of two, so that a shift of a page is seen. */
#define PATTERN_BYTES (256 * 1024 - 24)
extern uint8_t pattern[PATTERN_BYTES];
/* How many of the bytes are not what a stream has at `position`: 0, or 1 for "some". */
uint64_t wrongBytes(const uint8_t *bytes, size_t count, uint64_t position);
/* The stream's bytes from `position` on, as many as lie together. */
size_t patternAt(uint64_t position, const uint8_t **bytes);

/* A request for a stream: how long to give it, and under which number to note how much that was. */
typedef struct { uint32_t milliseconds, number; } GiveRequest;
/* What the taker of a stream answers at its end. */
typedef struct { uint64_t bytes, wrong; } Taken;

/* 22 bytes: a frame of 64. */
typedef struct __attribute__((packed)) { uint32_t run, sequence; uint64_t check; uint8_t rest[6]; } Datagram;
#define MAX_DATAGRAMS (4u << 20)
static inline uint64_t datagramCheck(uint32_t run, uint32_t sequence) {
  uint64_t x = ((uint64_t)run << 32 | sequence) * 0x9e3779b97f4a7c15u;
  return x ^ x >> 29;
}

typedef struct { uint32_t isStream, number; } ReportRequest;
/* Streams: bytes given. Datagrams: taken once, not as sent, taken again. */
typedef struct { uint64_t count, wrong, again; } Report;

#define REQUEST_BYTES 64
#define TOKEN_BYTES 16
#define RESPONSE_HEAD "HTTP/1.1 200 OK\r\nContent-Length: 16\r\nConnection: close\r\n\r\n"
#define RESPONSE_BYTES (sizeof RESPONSE_HEAD - 1 + TOKEN_BYTES)

_Noreturn void fail(const char *what);
int64_t nanoseconds(void);
/* User and system time of this process. */
double cpuSeconds(void);
struct sockaddr_in target(uint16_t port);
/* A connection to the server's port FIRST + role; blocking, no delay. */
int connectTo(int role);
void sendAll(int fd, const void *bytes, size_t count);
/* False at the end of the stream. */
bool receiveAll(int fd, void *bytes, size_t count);
Report askReport(bool isStream, uint32_t number);

void serve(uint16_t first);
void streams(bool out, int count, int milliseconds);
void requests(int idle, int milliseconds);
void exchanges(int atOnce, int milliseconds);
void datagrams(uint32_t aSecond, int milliseconds);
void burst(uint32_t run, uint32_t count);

#endif
