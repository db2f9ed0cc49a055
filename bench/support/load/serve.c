/* The server: one thread, epoll, level-triggered; every port of load.h. Runs until it is ended. */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

enum { STREAM_NUMBERS = 64, DATAGRAMS_A_CALL = 64 };

typedef struct {
  int fd;
  int role;
  bool listens, gives;
  uint64_t position, wrong;
  int64_t until;
  uint32_t number;
  size_t have;
  uint8_t request[REQUEST_BYTES];
} Peer;

static int epoll;
static uint8_t buffer[PATTERN_BYTES];
static uint64_t given[STREAM_NUMBERS];
static uint32_t currentRun;
static Report taken;
static uint8_t seen[MAX_DATAGRAMS / 8];

static void watch(int fd, int role, bool listens) {
  Peer *peer = calloc(1, sizeof *peer);
  peer->fd = fd;
  peer->role = role;
  peer->listens = listens;
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = peer};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) fail("epoll_ctl");
}

static void drop(Peer *peer) {
  close(peer->fd);
  free(peer);
}

static void acceptAll(const Peer *peer) {
  int one = 1;
  for (;;) {
    int fd = accept4(peer->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    watch(fd, peer->role, false);
  }
}

static void take(Peer *peer) {
  ssize_t got = recv(peer->fd, buffer, sizeof buffer, 0);
  if (got > 0) {
    peer->wrong += wrongBytes(buffer, (size_t)got, peer->position);
    peer->position += (uint64_t)got;
  } else if (got == 0) {
    Taken answer = {.bytes = peer->position, .wrong = peer->wrong};
    send(peer->fd, &answer, sizeof answer, MSG_NOSIGNAL);
    drop(peer);
  } else if (errno != EAGAIN) {
    drop(peer);
  }
}

static void wait(Peer *peer, uint32_t events) {
  struct epoll_event event = {.events = events, .data.ptr = peer};
  epoll_ctl(epoll, EPOLL_CTL_MOD, peer->fd, &event);
}

/* A request, then the stream until its time is over, then nothing until the other side closes: it asks for the count. */
static void give(Peer *peer) {
  if (!peer->gives) {
    GiveRequest request;
    if (recv(peer->fd, &request, sizeof request, 0) != sizeof request) return drop(peer);
    peer->gives = true;
    peer->until = nanoseconds() + request.milliseconds * 1000000ll;
    peer->number = request.number % STREAM_NUMBERS;
    given[peer->number] = 0;
    wait(peer, EPOLLOUT);
  }
  if (nanoseconds() >= peer->until) {
    given[peer->number] = peer->position;
    peer->gives = false;
    return wait(peer, EPOLLIN);
  }
  const uint8_t *bytes;
  size_t count = patternAt(peer->position, &bytes);
  ssize_t sent = send(peer->fd, bytes, count, MSG_NOSIGNAL);
  if (sent > 0) peer->position += (uint64_t)sent;
  else if (errno != EAGAIN) drop(peer);
}

static void echo(Peer *peer) {
  ssize_t got = recv(peer->fd, buffer, sizeof buffer, 0);
  if (got <= 0 || send(peer->fd, buffer, (size_t)got, MSG_NOSIGNAL) != got) drop(peer);
}

static void answer(Peer *peer) {
  ssize_t got = recv(peer->fd, peer->request + peer->have, sizeof peer->request - peer->have, 0);
  if (got <= 0) return drop(peer);
  peer->have += (size_t)got;
  if (peer->have < REQUEST_BYTES) return;
  uint8_t response[RESPONSE_BYTES];
  memcpy(response, RESPONSE_HEAD, sizeof RESPONSE_HEAD - 1);
  memcpy(response + sizeof RESPONSE_HEAD - 1, peer->request + REQUEST_BYTES - 4 - TOKEN_BYTES, TOKEN_BYTES);
  send(peer->fd, response, sizeof response, MSG_NOSIGNAL);
  drop(peer);
}

static void count(const Peer *peer) {
  static Datagram datagrams[DATAGRAMS_A_CALL];
  struct mmsghdr messages[DATAGRAMS_A_CALL] = {0};
  struct iovec vectors[DATAGRAMS_A_CALL];
  for (int i = 0; i < DATAGRAMS_A_CALL; i++) {
    vectors[i] = (struct iovec){&datagrams[i], sizeof *datagrams};
    messages[i].msg_hdr.msg_iov = &vectors[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  int got = recvmmsg(peer->fd, messages, DATAGRAMS_A_CALL, MSG_DONTWAIT, NULL);
  for (int i = 0; i < got; i++) {
    const Datagram *d = &datagrams[i];
    if (messages[i].msg_len != sizeof *d || d->check != datagramCheck(d->run, d->sequence) || d->sequence >= MAX_DATAGRAMS) {
      taken.wrong++;
      continue;
    }
    if (d->run != currentRun) {
      currentRun = d->run;
      taken = (Report){0};
      memset(seen, 0, sizeof seen);
    }
    uint8_t bit = (uint8_t)(1u << (d->sequence & 7));
    if (seen[d->sequence >> 3] & bit) taken.again++;
    else taken.count++;
    seen[d->sequence >> 3] |= bit;
  }
}

static void report(Peer *peer) {
  ReportRequest request;
  if (recv(peer->fd, &request, sizeof request, 0) == sizeof request) {
    Report answer = {0};
    if (request.isStream) answer.count = given[request.number % STREAM_NUMBERS];
    else if (request.number == currentRun) answer = taken;
    send(peer->fd, &answer, sizeof answer, MSG_NOSIGNAL);
  }
  drop(peer);
}

static void listenOn(uint16_t first, int role) {
  struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons((uint16_t)(first + role))};
  int fd = socket(AF_INET, (role == DATAGRAMS ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  int one = 1, room = 16 << 20;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (role == DATAGRAMS) setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
  if (fd < 0 || bind(fd, (struct sockaddr *)&here, sizeof here) < 0) fail("bind");
  if (role != DATAGRAMS && listen(fd, 4096) < 0) fail("listen");
  watch(fd, role, role != DATAGRAMS);
}

void serve(uint16_t first) {
  epoll = epoll_create1(EPOLL_CLOEXEC);
  for (int role = TAKE; role <= REPORT; role++) listenOn(first, role);
  puts("ready");
  fflush(stdout);
  for (;;) {
    struct epoll_event events[64];
    int found = epoll_wait(epoll, events, 64, -1);
    for (int i = 0; i < found; i++) {
      Peer *peer = events[i].data.ptr;
      if (peer->listens) acceptAll(peer);
      else if (peer->role == TAKE) take(peer);
      else if (peer->role == GIVE) give(peer);
      else if (peer->role == ECHO) echo(peer);
      else if (peer->role == EXCHANGE) answer(peer);
      else if (peer->role == DATAGRAMS) count(peer);
      else report(peer);
    }
  }
}
