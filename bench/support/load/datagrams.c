/* UDP frames of 64 bytes: at a steady rate (`datagrams`), or as many as are asked for at once (`burst`). */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

enum { A_CALL = 32, SETTLE_MS = 10, MAX_SETTLES = 50, TICK = 50000, LATEST = 300000 };

static int openSocket(void) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  int room = 16 << 20;
  struct sockaddr_in to = target(DATAGRAMS);
  setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
  if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0) fail("connect");
  return fd;
}

/* Sends datagrams first … first + count - 1 of the run. */
static void sendSome(int fd, uint32_t run, uint32_t first, unsigned count) {
  Datagram datagrams[A_CALL];
  struct mmsghdr messages[A_CALL] = {0};
  struct iovec vectors[A_CALL];
  for (unsigned i = 0; i < count; i++) {
    datagrams[i] = (Datagram){.run = run, .sequence = first + i, .check = datagramCheck(run, first + i)};
    vectors[i] = (struct iovec){&datagrams[i], sizeof *datagrams};
    messages[i].msg_hdr.msg_iov = &vectors[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  for (unsigned done = 0; done < count;) {
    int sent = sendmmsg(fd, messages + done, count - done, 0);
    if (sent < 0) fail("sendmmsg");
    done += (unsigned)sent;
  }
}

static void pause_(int64_t forNanoseconds) {
  struct timespec time = {forNanoseconds / 1000000000, forNanoseconds % 1000000000};
  nanosleep(&time, NULL);
}

/* Asks until all have come, or no more do. */
static Report settle(uint32_t run, uint64_t sent) {
  Report report = askReport(false, run);
  for (int tries = 0, same = 0; tries < MAX_SETTLES && report.count < sent && same < 3; tries++) {
    pause_(SETTLE_MS * 1000000ll);
    Report next = askReport(false, run);
    same = next.count == report.count ? same + 1 : 0;
    report = next;
  }
  return report;
}

/*
 * What is due, then a sleep of TICK, so that the sender leaves the processor to others. What is late is made up for, but not
 * what is very late (the machine was busy elsewhere): the burst would overrun any buffer, and no NIC sends so. So less may be
 * sent than was asked for: the time is kept, and `sent` says it.
 */
void datagrams(uint32_t aSecond, int milliseconds) {
  const uint64_t wanted = (uint64_t)aSecond * (uint64_t)milliseconds / 1000;
  if (wanted < A_CALL || wanted > MAX_DATAGRAMS) fail("too few or too many datagrams");
  int fd = openSocket();
  prctl(PR_SET_TIMERSLACK, 1);
  const uint32_t run = (uint32_t)(nanoseconds() >> 10) | 1u;
  const int64_t begin = nanoseconds();
  int64_t start = begin;
  uint32_t sent = 0;
  while (sent < wanted) {
    int64_t now = nanoseconds();
    if (now - begin > milliseconds * 1000000ll + LATEST) break;
    int64_t late = now - (start + (int64_t)((double)sent * 1e9 / aSecond));
    if (late < 0) {
      pause_(TICK);
      continue;
    }
    if (late > LATEST) start += late - LATEST;
    uint64_t due = (uint64_t)((double)(late > LATEST ? LATEST : late) * aSecond / 1e9) + 1;
    if (due > wanted - sent) due = wanted - sent;
    unsigned count = due < A_CALL ? (unsigned)due : A_CALL;
    sendSome(fd, run, sent, count);
    sent += count;
  }
  double seconds = (double)(nanoseconds() - begin) / 1e9, cpu = cpuSeconds();
  Report report = settle(run, sent);
  errno = 0;
  if (report.wrong != 0) fail("datagrams arrived that were not sent");
  printf("{\"sent\":%u,\"received\":%llu,\"again\":%llu,\"seconds\":%.6f,\"cpu\":%.6f}\n", sent, (unsigned long long)report.count,
         (unsigned long long)report.again, seconds, cpu);
}

void burst(uint32_t run, uint32_t count) {
  if (count > MAX_DATAGRAMS) fail("too many datagrams");
  int fd = openSocket();
  for (uint32_t sent = 0; sent < count; sent += A_CALL) sendSome(fd, run, sent, count - sent < A_CALL ? count - sent : A_CALL);
  printf("{\"sent\":%u}\n", count);
}
