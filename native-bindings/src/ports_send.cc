// Ports, sending: frames to taps one by one, to packet sockets gathered for one call.
#include <errno.h>
#include <linux/if_packet.h>
#include <string.h>
#include <unistd.h>

#include "ports.h"
#include "vnet.h"

namespace berth {

namespace {

Lost WhyLost(int error) {
  if (error == EAGAIN || error == ENOBUFS || error == ENOMEM) return kLinkFull;
  if (error == EMSGSIZE || error == EINVAL) return kTooLong;
  return kLinkDown;
}

}  // namespace

int32_t Ports::WriteFrame(int port, uint8_t* packet, size_t bytes) {
  const Port& p = ports_[port];
  if (p.fd < 0) return LostCode(port, kLinkDown);
  ssize_t sent = p.is_socket ? send(p.fd, packet, bytes, MSG_DONTWAIT) : write(p.fd, packet, bytes);
  return sent < 0 ? LostCode(port, WhyLost(errno)) : 0;
}

int32_t Ports::SendOne(Memory memory, int port, uint32_t offset, uint32_t length) {
  return WriteFrame(port, memory_[memory] + offset - kVnetHeader, length + kVnetHeader);
}

// A super-frame was refused: if that is because the interface cannot cut it, lets the port use the interface's queue from
// now on, where the kernel cuts it, and returns true: try again.
bool Ports::StopBypass(Port& port, const uint8_t* packet) {
  VnetHeader header;
  memcpy(&header, packet, kVnetHeader);
  if (!port.bypasses || header.gso_type == 0 || (header.gso_type != kGsoUdp && CutsTcp(port.fd))) return false;
  port.bypasses = false;
  return SetQueueBypass(port.fd, false) == 0;
}

// Sends what has been gathered for `port`; one that the kernel refuses is marked lost and the rest goes on.
void Ports::Flush(int port) {
  uint32_t done = 0;
  while (done < gathered_) {
    int sent = ports_[port].fd < 0 ? -1 : sendmmsg(ports_[port].fd, &messages_[done], gathered_ - done, MSG_DONTWAIT);
    if (sent > 0) {
      done += static_cast<uint32_t>(sent);
      continue;
    }
    Lost why = ports_[port].fd < 0 ? kLinkDown : WhyLost(errno);
    if (why == kLinkFull && StopBypass(ports_[port], static_cast<uint8_t*>(vectors_[done].iov_base))) continue;
    d_.verdict[frames_[done]] = LostCode(port, why);
    lost_++;
    done++;
  }
  gathered_ = 0;
}

int Ports::Forward(Memory memory, uint32_t count) {
  uint8_t* const base = memory_[memory];
  int gathering_for = -1;
  lost_ = 0;
  for (uint32_t i = 0; i < count; i++) {
    int port = d_.verdict[i];
    if (port < 0) continue;
    uint8_t* packet = base + d_.offset[i] - kVnetHeader;
    size_t bytes = d_.length[i] + kVnetHeader;
    int32_t failed = 0;
    if (static_cast<size_t>(port) >= ports_.size()) {
      failed = LostCode(port, kLinkDown);
    } else if (d_.length[i] < d_.wire_length[i]) {
      failed = LostCode(port, kTooLong);
    } else if (!ports_[port].is_socket) {
      failed = WriteFrame(port, packet, bytes);
    } else {
      if (gathered_ > 0 && (gathering_for != port || gathered_ == messages_.size())) Flush(gathering_for);
      gathering_for = port;
      vectors_[gathered_] = {packet, bytes};
      messages_[gathered_] = mmsghdr{};
      messages_[gathered_].msg_hdr.msg_iov = &vectors_[gathered_];
      messages_[gathered_].msg_hdr.msg_iovlen = 1;
      frames_[gathered_++] = i;
    }
    if (failed != 0) {
      d_.verdict[i] = failed;
      lost_++;
    }
  }
  if (gathered_ > 0) Flush(gathering_for);
  if (memory == kRingMemory) {
    for (uint32_t i = 0; i < count; i++) __atomic_store_n(&lent_[i]->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
  }
  return lost_;
}

}  // namespace berth
