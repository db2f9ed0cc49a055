/* Bulk TCP: `in` sends to the server, which compares and answers how much came; `out` takes from it and compares here. */
#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

enum { MAX_STREAMS = 64 };

typedef struct {
  int fd;
  uint64_t position, wrong;
} Stream;

static Stream all[MAX_STREAMS];
static uint8_t buffer[PATTERN_BYTES];

static void push(Stream *stream) {
  const uint8_t *bytes;
  size_t count = patternAt(stream->position, &bytes);
  ssize_t sent = send(stream->fd, bytes, count, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent > 0) stream->position += (uint64_t)sent;
  else if (errno != EAGAIN) fail("send");
}

static void pull(Stream *stream) {
  ssize_t got = recv(stream->fd, buffer, sizeof buffer, MSG_DONTWAIT);
  if (got > 0) {
    stream->wrong += wrongBytes(buffer, (size_t)got, stream->position);
    stream->position += (uint64_t)got;
  } else if (got == 0 || errno != EAGAIN) {
    if (got == 0) errno = 0;
    fail("the stream was closed early");
  }
}

/* Sends until the time is over, then waits until all of it has been taken. */
static void sendFor(int epoll, int count, int64_t until) {
  struct epoll_event events[MAX_STREAMS];
  while (nanoseconds() < until) {
    int found = epoll_wait(epoll, events, MAX_STREAMS, 10);
    for (int i = 0; i < found; i++) push(events[i].data.ptr);
  }
  for (int i = 0; i < count; i++) shutdown(all[i].fd, SHUT_WR);
  for (int i = 0; i < count; i++) {
    Taken answer;
    errno = 0;
    if (!receiveAll(all[i].fd, &answer, sizeof answer)) fail("the server has not said what it took");
    if (answer.bytes != all[i].position) fail("bytes were lost or doubled");
    all[i].wrong = answer.wrong;
  }
}

/* Takes until the time is over, asks the server how much it gave, and takes the rest. */
static void takeAll(int epoll, int count, int64_t until) {
  struct epoll_event events[MAX_STREAMS];
  uint64_t given[MAX_STREAMS] = {0};
  for (int open = count; open > 0;) {
    int found = epoll_wait(epoll, events, MAX_STREAMS, 1);
    for (int i = 0; i < found; i++) pull(events[i].data.ptr);
    if (nanoseconds() < until) continue;
    open = 0;
    for (int i = 0; i < count; i++) {
      if (given[i] == 0) given[i] = askReport(true, (uint32_t)i).count;
      if (given[i] == 0 || all[i].position < given[i]) open++;
      else if (all[i].position > given[i]) fail("more bytes came than were given");
    }
  }
}

void streams(bool out, int count, int milliseconds) {
  if (count < 1 || count > MAX_STREAMS) fail("1 to 64 streams");
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  for (int i = 0; i < count; i++) {
    all[i].fd = connectTo(out ? GIVE : TAKE);
    struct epoll_event event = {.events = out ? EPOLLIN : EPOLLOUT, .data.ptr = &all[i]};
    epoll_ctl(epoll, EPOLL_CTL_ADD, all[i].fd, &event);
  }
  int64_t start = nanoseconds();
  if (out) {
    for (int i = 0; i < count; i++) {
      GiveRequest request = {.milliseconds = (uint32_t)milliseconds, .number = (uint32_t)i};
      sendAll(all[i].fd, &request, sizeof request);
    }
    takeAll(epoll, count, start + milliseconds * 1000000ll);
  } else {
    sendFor(epoll, count, start + milliseconds * 1000000ll);
  }
  double seconds = (double)(nanoseconds() - start) / 1e9;
  uint64_t bytes = 0;
  errno = 0;
  for (int i = 0; i < count; i++) {
    bytes += all[i].position;
    if (all[i].wrong != 0) fail("bytes arrived that were not sent");
  }
  printf("{\"bytes\":%llu,\"seconds\":%.6f,\"cpu\":%.6f}\n", (unsigned long long)bytes, seconds, cpuSeconds());
}
