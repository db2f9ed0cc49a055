/* Latency on one connection (`requests`) and short connections, a request and an answer each (`exchanges`). */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

enum { MAX_AT_ONCE = 64, MESSAGE_BYTES = 64, MAX_SAMPLES = 4 << 20 };

static int ascending(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return x < y ? -1 : x > y;
}

/* Sends the number there and back; the answer must be the same 64 bytes. */
static void ask(int fd, uint64_t number) {
  uint64_t message[MESSAGE_BYTES / 8], answer[MESSAGE_BYTES / 8];
  for (size_t i = 0; i < MESSAGE_BYTES / 8; i++) message[i] = number + i;
  sendAll(fd, message, sizeof message);
  errno = 0;
  if (!receiveAll(fd, answer, sizeof answer)) fail("the connection was closed");
  if (memcmp(message, answer, sizeof message) != 0) fail("another answer than the one to this request");
}

/* `idle` connections are opened first, asked once, left alone, and asked once more at the end. */
void requests(int idle, int milliseconds) {
  struct rlimit files = {(rlim_t)idle + 64, (rlim_t)idle + 64};
  if (idle > 900) setrlimit(RLIMIT_NOFILE, &files);
  int *waiting = calloc((size_t)idle + 1, sizeof *waiting);
  uint32_t *samples = malloc(MAX_SAMPLES * sizeof *samples);
  for (int i = 0; i < idle; i++) {
    waiting[i] = connectTo(ECHO);
    ask(waiting[i], (uint64_t)i);
  }
  int fd = connectTo(ECHO);
  ask(fd, 1);
  double cpuBefore = cpuSeconds();
  int64_t start = nanoseconds(), now = start;
  const int64_t until = start + milliseconds * 1000000ll;
  size_t count = 0;
  while (now < until && count < MAX_SAMPLES) {
    ask(fd, count);
    int64_t then = nanoseconds();
    samples[count++] = (uint32_t)(then - now);
    now = then;
  }
  double seconds = (double)(now - start) / 1e9, cpu = cpuSeconds() - cpuBefore;
  for (int i = 0; i < idle; i++) ask(waiting[i], (uint64_t)i);
  qsort(samples, count, sizeof *samples, ascending);
  printf("{\"count\":%zu,\"seconds\":%.6f,\"cpu\":%.6f,\"p50\":%.1f,\"p99\":%.1f,\"p999\":%.1f}\n", count, seconds, cpu, samples[count / 2] / 1e3,
         samples[count * 99 / 100] / 1e3, samples[count * 999 / 1000] / 1e3);
}

typedef struct {
  int fd;
  bool asked;
  size_t have;
  char token[TOKEN_BYTES + 1];
  uint8_t response[RESPONSE_BYTES + 1];
} Exchange;

static Exchange all[MAX_AT_ONCE];
static uint32_t nextToken;

static void begin(int epoll, Exchange *exchange) {
  int one = 1;
  struct sockaddr_in to = target(EXCHANGE);
  exchange->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  exchange->asked = false;
  exchange->have = 0;
  setsockopt(exchange->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (connect(exchange->fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS) fail("connect");
  struct epoll_event event = {.events = EPOLLOUT, .data.ptr = exchange};
  epoll_ctl(epoll, EPOLL_CTL_ADD, exchange->fd, &event);
}

static void sendRequest(int epoll, Exchange *exchange) {
  char request[REQUEST_BYTES + 1];
  snprintf(exchange->token, sizeof exchange->token, "%016x", nextToken++);
  snprintf(request, sizeof request, "GET / HTTP/1.1\r\nHost: 192.0.2.10\r\nX-N: %*s%s\r\n\r\n", REQUEST_BYTES - 59, "", exchange->token);
  errno = 0;
  if (send(exchange->fd, request, REQUEST_BYTES, MSG_NOSIGNAL) != REQUEST_BYTES) fail("connect or send");
  exchange->asked = true;
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = exchange};
  epoll_ctl(epoll, EPOLL_CTL_MOD, exchange->fd, &event);
}

/* True when the whole answer, and the end of the stream, have come. */
static bool receiveAnswer(Exchange *exchange) {
  for (;;) {
    ssize_t got = recv(exchange->fd, exchange->response + exchange->have, sizeof exchange->response - exchange->have, 0);
    if (got < 0 && errno == EAGAIN) return false;
    if (got < 0) fail("receive");
    if (got == 0) break;
    exchange->have += (size_t)got;
    if (exchange->have > RESPONSE_BYTES) break;
  }
  errno = 0;
  const char *expected = exchange->token;
  if (exchange->have != RESPONSE_BYTES || memcmp(exchange->response + RESPONSE_BYTES - TOKEN_BYTES, expected, TOKEN_BYTES) != 0)
    fail("an exchange without its own answer");
  return true;
}

void exchanges(int atOnce, int milliseconds) {
  if (atOnce < 1 || atOnce > MAX_AT_ONCE) fail("1 to 64 at once");
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  int64_t start = nanoseconds();
  const int64_t until = start + milliseconds * 1000000ll;
  uint64_t count = 0;
  for (int i = 0; i < atOnce; i++) begin(epoll, &all[i]);
  for (int open = atOnce; open > 0;) {
    struct epoll_event events[MAX_AT_ONCE];
    int found = epoll_wait(epoll, events, MAX_AT_ONCE, -1);
    for (int i = 0; i < found; i++) {
      Exchange *exchange = events[i].data.ptr;
      if (!exchange->asked) {
        sendRequest(epoll, exchange);
      } else if (receiveAnswer(exchange)) {
        close(exchange->fd);
        count++;
        if (nanoseconds() < until) begin(epoll, exchange);
        else open--;
      }
    }
  }
  double seconds = (double)(nanoseconds() - start) / 1e9;
  printf("{\"count\":%llu,\"seconds\":%.6f,\"cpu\":%.6f}\n", (unsigned long long)count, seconds, cpuSeconds());
}
