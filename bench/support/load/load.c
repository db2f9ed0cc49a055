/* The load program: what its parts share, and the command line. See load.h. */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

uint8_t pattern[PATTERN_BYTES];
static struct in_addr server;
static uint16_t firstPort;

_Noreturn void fail(const char *what) {
  if (errno != 0) printf("{\"error\":\"%s: %s\"}\n", what, strerror(errno));
  else printf("{\"error\":\"%s\"}\n", what);
  exit(1);
}

static void tooLong(int signal) {
  (void)signal;
  static const char line[] = "{\"error\":\"nothing came for too long\"}\n";
  if (write(STDOUT_FILENO, line, sizeof line - 1) < 0) _exit(2);
  _exit(1);
}

int64_t nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000ll + now.tv_nsec;
}

double cpuSeconds(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void makePattern(void) {
  uint32_t state = 0x5eed1;
  for (size_t i = 0; i < PATTERN_BYTES; i++) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    pattern[i] = (uint8_t)(state >> 11);
  }
}

size_t patternAt(uint64_t position, const uint8_t **bytes) {
  size_t at = position % PATTERN_BYTES;
  *bytes = pattern + at;
  return PATTERN_BYTES - at;
}

uint64_t wrongBytes(const uint8_t *bytes, size_t count, uint64_t position) {
  while (count > 0) {
    const uint8_t *expected;
    size_t together = patternAt(position, &expected);
    if (together > count) together = count;
    if (memcmp(bytes, expected, together) != 0) return 1;
    bytes += together;
    count -= together;
    position += together;
  }
  return 0;
}

struct sockaddr_in target(uint16_t port) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)(firstPort + port)), .sin_addr = server};
  return to;
}

int connectTo(int role) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int one = 1;
  struct sockaddr_in to = target((uint16_t)role);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0) fail("connect");
  return fd;
}

void sendAll(int fd, const void *bytes, size_t count) {
  for (size_t done = 0; done < count;) {
    ssize_t sent = send(fd, (const char *)bytes + done, count - done, MSG_NOSIGNAL);
    if (sent < 0) fail("send");
    done += (size_t)sent;
  }
}

bool receiveAll(int fd, void *bytes, size_t count) {
  for (size_t done = 0; done < count;) {
    ssize_t got = recv(fd, (char *)bytes + done, count - done, 0);
    if (got < 0) fail("receive");
    if (got == 0) return false;
    done += (size_t)got;
  }
  return true;
}

Report askReport(bool isStream, uint32_t number) {
  ReportRequest request = {.isStream = isStream, .number = number};
  Report report;
  int fd = connectTo(REPORT);
  sendAll(fd, &request, sizeof request);
  errno = 0;
  if (!receiveAll(fd, &report, sizeof report)) fail("the server has no report");
  close(fd);
  return report;
}

static const char USAGE[] =
    "usage: load serve FIRST | load COMMAND ADDRESS FIRST …, COMMAND one of\n"
    "  in STREAMS MS, out STREAMS MS, requests IDLE MS, exchanges AT_ONCE MS, datagrams A_SECOND MS, burst RUN COUNT, count RUN\n";

int main(int argc, char **argv) {
  makePattern();
  signal(SIGPIPE, SIG_IGN);
  if (argc == 3 && strcmp(argv[1], "serve") == 0) {
    serve((uint16_t)atoi(argv[2]));
    return 0;
  }
  if (argc < 5 || inet_pton(AF_INET, argv[2], &server) != 1) {
    fputs(USAGE, stderr);
    return 2;
  }
  const char *command = argv[1];
  firstPort = (uint16_t)atoi(argv[3]);
  uint32_t number = (uint32_t)strtoul(argv[4], NULL, 10);
  int last = argc > 5 ? atoi(argv[5]) : 0;
  signal(SIGALRM, tooLong);
  alarm(8u + (unsigned)last / 1000u);
  if (strcmp(command, "in") == 0) streams(false, (int)number, last);
  else if (strcmp(command, "out") == 0) streams(true, (int)number, last);
  else if (strcmp(command, "requests") == 0) requests((int)number, last);
  else if (strcmp(command, "exchanges") == 0) exchanges((int)number, last);
  else if (strcmp(command, "datagrams") == 0) datagrams(number, last);
  else if (strcmp(command, "burst") == 0) burst(number, (uint32_t)last);
  else if (strcmp(command, "count") == 0) {
    Report report = askReport(false, number);
    printf("{\"received\":%llu,\"wrong\":%llu,\"again\":%llu}\n", (unsigned long long)report.count, (unsigned long long)report.wrong,
           (unsigned long long)report.again);
  } else {
    fputs(USAGE, stderr);
    return 2;
  }
  return 0;
}
