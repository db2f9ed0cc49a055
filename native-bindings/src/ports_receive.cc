// Ports, receiving: the NIC's ring and the links' slots into descriptors.
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ports.h"
#include "vnet.h"

namespace berth {

namespace {

constexpr size_t kEthernet = 14;
constexpr size_t kMinIpv4 = 20;
constexpr uint8_t kTcp = 6, kUdp = 17;
constexpr size_t kUdpHeader = 8, kMinTcpHeader = 20;
constexpr size_t kMacs = 12;
constexpr size_t kTag = 4;

// The kernel keeps an outermost VLAN tag beside the frame; puts it back before the ethertype, moving what lies before
// (virtio-net header and MACs) down by four bytes. Returns the frame's new start.
uint8_t* RestoreTag(uint8_t* frame, uint16_t tpid, uint16_t tci) {
  memmove(frame - kVnetHeader - kTag, frame - kVnetHeader, kVnetHeader + kMacs);
  uint16_t tag[2] = {htons(tpid), htons(tci)};
  memcpy(frame - kTag + kMacs, tag, kTag);
  frame -= kTag;
  VnetHeader header;
  memcpy(&header, frame - kVnetHeader, kVnetHeader);
  if (header.flags & kNeedsChecksum) header.csum_start += kTag;
  if (header.gso_type != 0) header.hdr_len += kTag;
  memcpy(frame - kVnetHeader, &header, kVnetHeader);
  return frame;
}

// A guest's virtio-net header says where the kernel, or the NIC, is to write a checksum: were it believed, it could write
// over the very ports and addresses that the engine checks. What it asks for must be the frame's own TCP or UDP checksum,
// and segmentation of that protocol, into packets of at most `mtu` bytes; `length` counts from the destination MAC.
bool IsHonest(const uint8_t* frame, size_t length, uint32_t mtu) {
  VnetHeader header;
  memcpy(&header, frame - kVnetHeader, kVnetHeader);
  uint8_t gso = header.gso_type & ~kGsoEcn;
  bool checksum = (header.flags & kNeedsChecksum) != 0;
  if (!checksum && gso == 0) return true;
  if (!checksum || length < kEthernet + kMinIpv4 || frame[12] != 0x08 || frame[13] != 0x00) return false;
  const uint8_t* ip = frame + kEthernet;
  size_t ip_bytes = (ip[0] & 15) * size_t{4};
  bool fragment = ((ip[6] << 8 | ip[7]) & 0x3fff) != 0;
  if (ip[0] >> 4 != 4 || ip_bytes < kMinIpv4 || fragment || header.csum_start != kEthernet + ip_bytes) return false;
  const uint8_t* transport = ip + ip_bytes;
  size_t transport_bytes = kUdpHeader;
  if (ip[9] == kTcp) {
    if (header.csum_offset != 16 || (gso != 0 && gso != kGsoTcp4)) return false;
    if (length < kEthernet + ip_bytes + kMinTcpHeader) return false;
    transport_bytes = (transport[12] >> 4) * size_t{4};
  } else if (ip[9] != kUdp || header.csum_offset != 6 || (gso != 0 && gso != kGsoUfo && gso != kGsoUdp)) {
    return false;
  }
  return gso == 0 || ip_bytes + transport_bytes + header.gso_size <= mtu;
}

}  // namespace

void Ports::Ring::Advance() {
  next += shape.slot_bytes;
  if (++in_block < shape.per_block()) return;
  in_block = 0;
  block = block + 1 < shape.blocks ? block + 1 : 0;
  next = base + size_t{block} * shape.block_bytes;
}

// The ring whose next frame came first; null when there is none.
Ports::Ring* Ports::NextReady() {
  Ring& small = rings_[0];
  Ring& large = rings_[1];
  bool is_small = small.IsReady();
  bool is_large = large.IsReady();
  // A frame that was filled in before one that is seen is seen by a look afterwards, not by one before.
  if (is_large && !is_small) is_small = small.IsReady();
  if (!is_small || !is_large) return is_small ? &small : is_large ? &large : nullptr;
  const tpacket2_hdr* a = small.Header();
  const tpacket2_hdr* b = large.Header();
  bool large_first = b->tp_sec != a->tp_sec ? b->tp_sec < a->tp_sec : b->tp_nsec < a->tp_nsec;
  return large_first ? &large : &small;
}

int Ports::ReceiveRings() {
  uint32_t n = 0;
  uint8_t* const base = memory_[kRingMemory];
  while (n < d_.capacity) {
    Ring* ring = NextReady();
    if (ring == nullptr) break;
    tpacket2_hdr* header = ring->Header();
    uint8_t* frame = ring->next + header->tp_mac;
    uint32_t tag = 0;
    if ((header->tp_status & TP_STATUS_VLAN_VALID) != 0) {
      uint16_t tpid = (header->tp_status & TP_STATUS_VLAN_TPID_VALID) != 0 ? header->tp_vlan_tpid : 0x8100;
      frame = RestoreTag(frame, tpid, header->tp_vlan_tci);
      tag = kTag;
    }
    d_.offset[n] = static_cast<uint32_t>(frame - base);
    d_.length[n] = header->tp_snaplen + tag;
    d_.wire_length[n] = header->tp_len + tag;
    d_.seconds[n] = header->tp_sec;
    d_.nanoseconds[n] = header->tp_nsec;
    lent_[n++] = header;
    ring->Advance();
  }
  return static_cast<int>(n);
}

int Ports::ReceiveLink(int port) {
  const Port& p = ports_[port];
  if (p.fd < 0) return 0;
  uint32_t n = 0;
  uint32_t most = d_.capacity < kLinkSlots ? d_.capacity : kLinkSlots;
  uint8_t* const base = memory_[kLinkMemory];
  constexpr size_t room = kLinkSlotBytes - kLinkFrameStart + kVnetHeader;
  timespec now;
  clock_gettime(CLOCK_REALTIME_COARSE, &now);

  auto accept = [&](uint32_t slot, size_t bytes) {
    uint32_t start = slot * kLinkSlotBytes + kLinkFrameStart;
    d_.offset[n] = start;
    d_.wire_length[n] = static_cast<uint32_t>(bytes - kVnetHeader);
    // A frame with a dishonest header cannot be read: length 0, malformed.
    d_.length[n] = IsHonest(base + start, d_.wire_length[n], mtu_) ? d_.wire_length[n] : 0;
    d_.seconds[n] = static_cast<uint32_t>(now.tv_sec);
    d_.nanoseconds[n] = static_cast<uint32_t>(now.tv_nsec);
    n++;
  };

  if (!p.is_socket) {
    while (n < most) {
      ssize_t got = read(p.fd, base + n * kLinkSlotBytes + kLinkFrameStart - kVnetHeader, room);
      if (got < static_cast<ssize_t>(kVnetHeader)) break;
      accept(n, static_cast<size_t>(got));
    }
    return static_cast<int>(n);
  }

  for (uint32_t i = 0; i < most; i++) {
    vectors_[i] = {base + i * kLinkSlotBytes + kLinkFrameStart - kVnetHeader, room};
    messages_[i] = mmsghdr{};
    messages_[i].msg_hdr.msg_iov = &vectors_[i];
    messages_[i].msg_hdr.msg_iovlen = 1;
    messages_[i].msg_hdr.msg_control = &control_[i * kControlBytes];
    messages_[i].msg_hdr.msg_controllen = kControlBytes;
  }
  int got = recvmmsg(p.fd, messages_.data(), most, MSG_DONTWAIT, nullptr);
  for (int i = 0; i < got; i++) {
    msghdr& message = messages_[i].msg_hdr;
    if (messages_[i].msg_len < kVnetHeader || (message.msg_flags & MSG_TRUNC) != 0) continue;
    accept(static_cast<uint32_t>(i), messages_[i].msg_len);
    cmsghdr* control = CMSG_FIRSTHDR(&message);
    if (control == nullptr || control->cmsg_level != SOL_PACKET || control->cmsg_type != PACKET_AUXDATA) continue;
    tpacket_auxdata aux;
    memcpy(&aux, CMSG_DATA(control), sizeof aux);
    if ((aux.tp_status & TP_STATUS_VLAN_VALID) == 0) continue;
    // Room below the frame: the slot's first 8 bytes.
    uint16_t tpid = (aux.tp_status & TP_STATUS_VLAN_TPID_VALID) != 0 ? aux.tp_vlan_tpid : 0x8100;
    uint8_t* frame = RestoreTag(base + d_.offset[n - 1], tpid, aux.tp_vlan_tci);
    d_.offset[n - 1] = static_cast<uint32_t>(frame - base);
    d_.wire_length[n - 1] += kTag;
    if (d_.length[n - 1] > 0) d_.length[n - 1] += kTag;
  }
  return static_cast<int>(n);
}

}  // namespace berth
