// The virtio-net header before each frame (virtio 1.2 §5.1.6), host byte order; the kernel's own header for it is not C++.
#pragma once

#include <cstdint>

#include "sockets.h"

namespace berth {

struct VnetHeader {
  uint8_t flags, gso_type;
  uint16_t hdr_len, gso_size, csum_start, csum_offset;
};
static_assert(sizeof(VnetHeader) == kVnetHeader, "no padding");
constexpr uint8_t kNeedsChecksum = 1;
constexpr uint8_t kGsoTcp4 = 1, kGsoUfo = 3, kGsoUdp = 5, kGsoEcn = 0x80;

}  // namespace berth
